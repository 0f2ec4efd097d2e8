"""Fill a virtual environment with the packages of its lock file: with uv, else with pip.

Imported only when there is something to install. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from typing import Iterable, Mapping, Sequence

from _launch import command, environment
from _progress import Progress
from _venv import LOG, ROOT, SetupError, Venv, say

TAIL_LINES = 12
"""How much of the log a failure shows."""

ADVICE = {
    "No space left on device": """The disk is full. KISS3D_VENV_CACHE moves the environment to \
another one, UV_CACHE_DIR and PIP_CACHE_DIR the downloads.""",
    "ensurepip is not available|No module named ensurepip": """This Python comes without venv: \
install your system's python3-venv package.""",
    "connection broken|[Tt]emporary failure|timed out|SSLError|ProxyError": """The package index \
could not be reached. Check the network; uv's and pip's own settings apply (HTTPS_PROXY, \
UV_DEFAULT_INDEX, PIP_INDEX_URL).""",
    "DO NOT MATCH THE HASHES": """A package is not the one that requirements/ names: damaged on \
its way, or another one under the same name.""",
    "No matching distribution": """A package has no prebuilt wheel for this system. Supported are \
Linux with glibc 2.28 or later (x86_64, aarch64), Windows (x86_64) and macOS 14 or later (arm64).\
""",
}
"""What a log that matches the regular expression means for the reader; the first that fits."""

WINDOW = (500, 200)
"""Lines and columns of the terminal that uv sees: room for every bar that it draws."""


def install(venv: Venv, lock: int) -> None:
    """Make the environment and install its packages into it. Raises SetupError."""
    commands = Commands(venv, lock)
    without_pip = ["--without-pip"] if venv.base else []
    create = [sys.executable, "-I", "-m", "venv", *without_pip, venv.path]
    commands.must("making the environment", create)
    if venv.base:
        _show_packages(venv.base, venv)
    else:
        uv_lock = os.path.join(os.path.dirname(venv.lock_file), "installer.txt")
        commands.succeeds("getting uv, which installs", pip_command(venv, uv_lock))
    uv = shutil.which("uv", path=(venv.base or venv).scripts)
    if not uv or not commands.succeeds("installing packages", uv_command(uv, venv)):
        say(f"uv could not, so pip does, which takes longer; {venv.file(LOG)} has the reason")
        commands.must("installing packages with pip", pip_command(venv, venv.lock_file))
    if not venv.base:
        compile_once(venv, commands)


def compile_once(venv: Venv, commands: Commands) -> None:
    """Run the example once: numba's kernels and Python's bytecode of this checkout are there then,
    and the user's first picture waits for neither. A failure here is no reason not to start."""
    folder = venv.file("first-run")
    words = ("run", os.path.join(ROOT, "examples", "robot.png"), "--profile", "sketch")
    faster = ("--device", "cpu", "--set", "isomer.stage2_steps=1")
    run = command(venv, "orchestrator.cli", (*words, *faster, "--output", f"{folder}/run"))
    if not commands.succeeds("compiling, once, what runs on the CPU", run, environment()):
        say(f"that failed, so the first run compiles; {venv.file(LOG)} has the reason")
    shutil.rmtree(folder, ignore_errors=True)


def uv_command(uv: str, venv: Venv) -> list[str]:
    """Let uv install the environment's lock file, unmoved by settings in the user's folder."""
    into = ["--directory", venv.path, "--python", venv.python]
    # What builds iopath is in the lock as well.
    builds = ["--build-constraints", venv.lock_file]
    return [uv, "pip", "install", *into, *builds, *exactly(venv.lock_file)]


def pip_command(venv: Venv, lock_file: str) -> list[str]:
    """Let pip do it. An environment without a pip of its own sees its base's."""
    quietly = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    return [venv.python, "-I", "-m", "pip", "install", *quietly, *exactly(lock_file)]


def exactly(*lock_files: str) -> list[str]:
    """The packages that the files name by their hashes, and no others.

    Wheels only, so nothing compiles. The exception is iopath, which pytorch3d needs: it is
    published as source alone, and is pure Python.
    """
    wheels = ["--only-binary", ":all:", "--no-binary", "iopath"]
    files = [f"--requirement={file}" for file in lock_files]
    return ["--no-deps", "--require-hashes", *wheels, *files]


def _show_packages(base: Venv, venv: Venv) -> None:
    """Put one environment's packages on the other one's path, after its own."""
    theirs, ours = (
        sysconfig.get_path("purelib", "venv", {"base": place.path}) for place in (base, venv)
    )
    with open(os.path.join(ours, "kiss3d-run.pth"), "w", encoding="utf-8") as file:
        file.write(f"{os.path.relpath(theirs, ours)}\n")


class Commands:
    """The commands of an installation, one after the other, with their output in its log."""

    def __init__(self, venv: Venv, lock: int) -> None:
        self._log = venv.file(LOG)
        self._lock = lock

    def must(self, what: str, command: Sequence[str]) -> None:
        """Run a command and show how it goes. Raises SetupError if it fails."""
        if not self.succeeds(what, command):
            raise SetupError(_explain(what, self._log))

    def succeeds(
        self, what: str, command: Sequence[str], program: Mapping[str, str] | None = None
    ) -> bool:
        """The same, and tell whether it succeeded.

        program: the environment of a command that is no installer; it writes into a pipe.
        """
        say(what)
        reader, writer = os.pipe() if program else _terminal()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            env={**(program or os.environ), "TERM": "xterm", "NO_COLOR": "1"},
            pass_fds=() if sys.platform == "win32" else (self._lock,),
        )
        os.close(writer)
        progress = Progress(what)
        try:
            with open(reader, encoding="utf-8", errors="replace") as output:
                self._follow(output, progress, f"$ {' '.join(command)}")
            return child.wait() == 0
        finally:
            child.terminate()
            child.wait()
            progress.close()

    def _follow(self, output: Iterable[str], progress: Progress, first: str) -> None:
        with open(self._log, "a", encoding="utf-8") as log:
            print(first, file=log, flush=True)
            with suppress(OSError):  # a terminal's end
                for line in output:
                    text = progress.saw(line)
                    if text:
                        print(text, file=log, flush=True)


def _terminal() -> tuple[int, int]:
    """A terminal's two ends, to read from and to write to; a pipe's where there is none.

    uv tells only a terminal how many bytes have arrived.
    """
    try:
        import fcntl
        import pty
        import struct
        import termios

        reader, writer = pty.openpty()
    except (ImportError, OSError):
        return os.pipe()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", *WINDOW, 0, 0))
    return reader, writer


def _explain(what: str, log: str) -> str:
    with open(log, encoding="utf-8") as file:
        text = file.read()
    tail = "\n".join(f"    {line}" for line in text.splitlines()[-TAIL_LINES:])
    advice = [advice for pattern, advice in ADVICE.items() if re.search(pattern, text)][:1]
    last = f"The whole log is {log}. The next start begins anew."
    return "\n".join([f"{what}: failed.", "", tail, "", *advice, last])
