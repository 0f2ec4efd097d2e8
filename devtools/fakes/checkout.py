"""A checkout with the real launchers and a toy program, for tests of the launchers.

Its environments are real ones without pip, filled by a stand-in for uv, so that a test needs no
network and a fraction of a second.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import _install
import _lock
import _venv

from devtools.patience import eventually

REPOSITORY = Path(_venv.ROOT)

PROGRAM = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd(), "python": sys.executable,
                  "pythonpath": os.environ["PYTHONPATH"], "safe_path": sys.flags.safe_path,
                  "bytecode": None if sys.dont_write_bytecode else sys.pycache_prefix or ""}))
sys.exit(7)
"""

INSTALLER = """
import os, pathlib, sys, time
root, venv, how = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
print("Collecting toy", flush=True)
(venv / "half-made").write_text("")
(root / "installer.pid").write_text(str(os.getpid()))
if how.startswith("fail: "):
    sys.exit(how)
while how == "waits" and not (root / "go").exists():
    time.sleep(0.02)
with open(root / "installs", "a") as log:
    log.write("installed\\n")
"""

START = """
import sys
sys.path[:0] = sys.argv[1:3]
import _launch, _venv
from devtools.fakes.checkout import FakeCheckout
def body(arguments):
    checkout = FakeCheckout(arguments[0])
    _venv.ensure(checkout.venv(), checkout.installer(arguments[1]))
    return 0
sys.argv[1:] = sys.argv[3:]
_launch.launcher(body)
"""


@dataclass(frozen=True)
class FakeCheckout:
    """A folder that the launchers take for the repository."""

    path: str

    @classmethod
    def make(cls, root: Path) -> FakeCheckout:
        """Write one into `root`."""
        shutil.copytree(REPOSITORY / "bin", root / "bin", ignore=shutil.ignore_patterns("__py*"))
        (root / "orchestrator").mkdir()
        (root / "orchestrator" / "__init__.py").touch()
        (root / "orchestrator" / "cli.py").write_text(PROGRAM)
        checkout = cls(str(root))
        for file in ("run", "web", "ray", "dev", "installer"):
            checkout.require(file=file)
        return checkout

    @property
    def root(self) -> Path:
        return Path(self.path)

    def require(self, *requirements: str, file: str = "run") -> None:
        """Write one of the lock files."""
        folder = self.root / "requirements"
        folder.mkdir(exist_ok=True)
        (folder / f"{file}.txt").write_text("".join(f"{line}\n" for line in requirements))

    def venv(self) -> _venv.Venv:
        """The environment that its program needs now."""
        return _venv.environment_of("run", self.path)

    def installer(self, how: str = "works") -> _venv.Install:
        """A stand-in for uv, which works, "waits" for `release`, or says "fail: WHY"."""

        def install(venv: _venv.Venv, lock: int) -> None:
            bare = (sys.executable, "-I", "-m", "venv", "--without-pip", venv.path)
            fill = (venv.python, "-c", INSTALLER, self.path, venv.path, how)
            for program in (bare, fill):
                if not _install.succeeds(program, lock):
                    raise _venv.SetupError(how)

        return install

    def set_up(self, how: str = "works", venv: _venv.Venv | None = None) -> _venv.Venv:
        """Make the environment here and now, and let go of it."""
        venv = venv or self.venv()
        os.close(_venv.ensure(venv, self.installer(how)))
        return venv

    def start_set_up(self, how: str = "works") -> subprocess.Popen[str]:
        """The same in a process of its own."""
        paths = (REPOSITORY, self.root / "bin")
        return subprocess.Popen(
            [sys.executable, "-c", START, *map(str, paths), self.path, how],
            stderr=subprocess.PIPE,
            text=True,
        )

    def release(self) -> None:
        """Let an installer that waits go on."""
        (self.root / "go").touch()

    def installer_pid(self) -> int:
        """The process of the stand-in, once it is at work."""
        file = self.root / "installer.pid"
        eventually(lambda: file.exists() and file.read_text() != "")
        return int(file.read_text())

    def installs(self) -> int:
        """How many installations were completed."""
        log = self.root / "installs"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def run(
        self,
        *arguments: str,
        launcher: str = "kiss3d-orchestrate",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Start a launcher of it as a user would."""
        program = [sys.executable, str(self.root / "bin" / launcher), *arguments]
        return subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=env)


def said_until(start: subprocess.Popen[str], words: str) -> str:
    """What a start has said on stderr once these words are there, to the end of their line."""
    assert start.stderr is not None
    said = ""
    while words not in said:
        line = start.stderr.readline()
        assert line, f"it ended without these words: {said}"
        said += line
    return said


def venv_is_free(venv: _venv.Venv) -> bool:
    """Whether nobody makes the environment or runs in it."""
    lock = _lock.try_lock(venv.path, exclusive=True)
    if lock is not None:
        os.close(lock)
    return lock is not None


def is_alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wheel(folder: Path, name: str, program: str = "") -> str:
    """Build a wheel with one empty module, and maybe a program; return its line in a lock file."""
    info = f"{name}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        if program:
            script = zipfile.ZipInfo(f"{name}-1.0.data/scripts/{name}")
            script.external_attr = 0o100755 << 16
            archive.writestr(script, program)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def script(path: Path, text: str) -> None:
    """Write an executable file."""
    path.write_text(textwrap.dedent(text).lstrip())
    path.chmod(0o755)
