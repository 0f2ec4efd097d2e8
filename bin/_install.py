"""Fill a virtual environment with the packages of its lock file: with uv, else with pip.

Imported only when there is something to install. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import Any, Mapping, Sequence

from _launch import command, environment
from _lock import POLL_S, say
from _venv import DISK_GB, ROOT, SetupError, Venv

ADVICE = """\
{what}: failed; the reason is above, and the next start begins anew.

- No space left on device: KISS3D_VENV_CACHE moves the environment to another disk, UV_CACHE_DIR and
  PIP_CACHE_DIR the downloads.
- No module named ensurepip: install your system's python3-venv package.
- No connection: uv's and pip's own settings apply (HTTPS_PROXY, UV_DEFAULT_INDEX, PIP_INDEX_URL).
- A hash that does not match: the package was damaged on its way, or is another one of this name.
- No matching wheel or distribution: there are prebuilt ones for Linux with glibc 2.28 or later
  (x86_64, aarch64), Windows (x86_64) and macOS 14 or later (arm64)."""


def install(venv: Venv, lock: int) -> None:
    """Make the environment and install its packages into it. Raises SetupError.

    lock: what the commands inherit, so that nobody else begins while one of them is at work.
    """
    make(venv, lock)
    if venv.base:
        _show_packages(venv.base, venv)
    packages = f"the packages of requirements/{os.path.basename(venv.lock_file)}"
    uv = find_uv(venv.base or venv)
    if not uv and not venv.base:
        say("getting uv, which installs")
        uv_lock = os.path.join(os.path.dirname(venv.lock_file), "installer.txt")
        installs(pip_command(venv, uv_lock), venv, lock)
        uv = find_uv(venv)
    say(f"installing {packages}")
    if not venv.base:
        say(f"{size_of_run()}; it takes minutes, this one time")
    if not uv or not installs(uv_command(uv, venv), venv, lock):
        say("uv could not, so pip does, which takes longer")
        if not installs(pip_command(venv, venv.lock_file), venv, lock):
            raise SetupError(ADVICE.format(what=f"installing {packages}"))
    if not venv.base:
        compile_once(venv, lock)


def size_of_run() -> str:
    """How much run's packages are: measured on Linux, elsewhere the space that is asked for."""
    asked = f"up to {DISK_GB.get(sys.platform, max(DISK_GB.values()))} GB on disk"
    return {"linux": "about 3 GB to download, 6 GB on disk"}.get(sys.platform, asked)


def make(venv: Venv, lock: int) -> None:
    """Make the environment without packages. One with a base has no pip of its own."""
    without_pip = ["--without-pip"] if venv.base else []
    if not succeeds([sys.executable, "-I", "-m", "venv", *without_pip, venv.path], lock):
        raise SetupError(ADVICE.format(what="making the environment"))


def find_uv(venv: Venv) -> str | None:
    """The user's uv, else the one that was installed into the environment."""
    return shutil.which("uv") or shutil.which("uv", path=venv.scripts)


def compile_once(venv: Venv, lock: int) -> None:
    """Run the example once: numba's kernels and Python's bytecode of this checkout are there then,
    and the user's first picture waits for neither. A failure here is no reason not to start."""
    say("compiling, once, what runs on the CPU")
    folder = venv.file("first-run")
    words = ("run", os.path.join(ROOT, "examples", "robot.png"), "--profile", "sketch")
    # A sketch by itself leaves its body as it is; other pictures and profiles carve and refine.
    all_of_it = ("reconstruct.known_body=false", "isomer.refine_above=0", "isomer.stage2_steps=1")
    settings = [word for setting in all_of_it for word in ("--set", setting)]
    options = ("--device", "cpu", *settings, "--output", f"{folder}/run")
    run = command(venv, "orchestrator.cli", (*words, *options))
    with open(venv.file("first-run.log"), "w", encoding="utf-8") as log:
        if not succeeds(run, lock, log.fileno(), environment(venv)):
            say(f"that failed, so the first run compiles; {log.name} has the reason")
    shutil.rmtree(folder, ignore_errors=True)


def uv_command(uv: str, venv: Venv) -> list[str]:
    """Let uv install the environment's lock file, unmoved by settings in the user's folder."""
    into = ["--directory", venv.path, "--python", venv.python]
    # What builds iopath is in the lock as well.
    builds = ["--build-constraints", venv.lock_file]
    return [uv, "pip", "install", *into, *builds, *exactly(venv.lock_file)]


def pip_command(venv: Venv, lock_file: str) -> list[str]:
    """Let pip do it. An environment without a pip of its own sees its base's."""
    quietly = ["--no-input", "--disable-pip-version-check"]
    return [venv.python, "-I", "-m", "pip", "install", *quietly, *exactly(lock_file)]


def exactly(*lock_files: str) -> list[str]:
    """The packages that the files name by their hashes, and no others.

    Wheels only, so nothing compiles. The exception is iopath, which pytorch3d needs: it is
    published as source alone, and is pure Python.
    """
    wheels = ["--only-binary", ":all:", "--no-binary", "iopath"]
    files = [f"--requirement={file}" for file in lock_files]
    return ["--no-deps", "--require-hashes", *wheels, *files]


def installs(program: Sequence[str], venv: Venv, lock: int) -> bool:
    """Run an installer, which names hundreds of packages, and tell whether it succeeded.

    A terminal shows the last line that it wrote, in place of the one before. All of them are in
    the environment's install.log; where it fails they are told, for the reason is among them.
    """
    name = venv.file("install.log")
    with open(name, "wb") as log:
        process = subprocess.Popen(program, **_apart(lock, log.fileno()))
    with process, open(name, encoding="utf-8", errors="replace") as said:
        try:
            line = _Line()
            while _is_running(process):
                line.show(said.read())
            line.clear()
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            said.seek(0)
            sys.stderr.write(said.read())
            sys.stderr.flush()
    return process.returncode == 0


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process still runs, after a moment's wait for its end."""
    try:
        process.wait(timeout=POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


class _Line:
    """The terminal's last line, which is written over and over; where stderr is none, nothing."""

    def __init__(self) -> None:
        self._width = 0
        with contextlib.suppress(OSError, ValueError):
            self._width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1

    def show(self, text: str) -> None:
        """The last of these lines, if there is one."""
        lines = [line for line in text.splitlines() if line.strip()]
        if lines and self._width > 0:
            plain = "".join(sign for sign in lines[-1] if sign.isprintable())
            sys.stderr.write("\r" + plain[: self._width].ljust(self._width))
            sys.stderr.flush()

    def clear(self) -> None:
        if self._width > 0:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()


def succeeds(
    program: Sequence[str], lock: int, output: int = 2, env: Mapping[str, str] | None = None
) -> bool:
    """Run a command and tell whether it succeeded. What it says goes to stderr, for stdout belongs
    to the program that is being started."""
    return subprocess.call(program, **_apart(lock, output), env=env) == 0


def _apart(lock: int, output: int) -> dict[str, Any]:
    """How commands are started: all that they say goes to `output`."""
    keep = () if sys.platform == "win32" else (lock,)
    return {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "pass_fds": keep}


def _show_packages(base: Venv, venv: Venv) -> None:
    """Put one environment's packages on the other one's path, after its own."""
    theirs, ours = (
        sysconfig.get_path("purelib", "venv", {"base": place.path}) for place in (base, venv)
    )
    with open(os.path.join(ours, "kiss3d-run.pth"), "w", encoding="utf-8") as file:
        file.write(f"{os.path.relpath(theirs, ours)}\n")
