"""Fill a virtual environment with the packages of its lock file: with uv, else with pip.

Imported only when there is something to install. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from typing import Mapping, Sequence

from _launch import command, environment
from _lock import say
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
        succeeds(pip_command(venv, uv_lock), lock)
        uv = find_uv(venv)
    say(f"installing {packages}")
    if not venv.base:
        say(f"{size_of_run()}; it takes minutes, this one time")
    if not uv or not succeeds(uv_command(uv, venv), lock):
        say("uv could not, so pip does, which takes longer")
        if not succeeds(pip_command(venv, venv.lock_file), lock):
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


def succeeds(
    program: Sequence[str], lock: int, output: int = 2, env: Mapping[str, str] | None = None
) -> bool:
    """Run a command and tell whether it succeeded. What it says goes to stderr: uv and pip draw
    bars there, and stdout belongs to the program that is being started."""
    keep = () if sys.platform == "win32" else (lock,)
    quiet = subprocess.DEVNULL
    return (
        subprocess.call(program, stdin=quiet, stdout=output, stderr=output, pass_fds=keep, env=env)
        == 0
    )


def _show_packages(base: Venv, venv: Venv) -> None:
    """Put one environment's packages on the other one's path, after its own."""
    theirs, ours = (
        sysconfig.get_path("purelib", "venv", {"base": place.path}) for place in (base, venv)
    )
    with open(os.path.join(ours, "kiss3d-run.pth"), "w", encoding="utf-8") as file:
        file.write(f"{os.path.relpath(theirs, ours)}\n")
