"""Fill a virtual environment with the packages of its lock file: with uv, else with pip.

Imported only when there is something to install. Standard library only.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from typing import IO, Mapping, Sequence

from _progress import Progress
from _venv import LOG, SetupError, Venv, say

TAIL_LINES = 12
"""How much of the log a failure shows."""

ADVICE = {
    "No space left on device": """The disk is full. KISS3D_VENV_CACHE moves the environment to \
another one, UV_CACHE_DIR and PIP_CACHE_DIR the downloads.""",
    "ensurepip is not available|No module named ensurepip": """This Python comes without venv: \
install your system's python3-venv package.""",
    "connection broken|[Tt]emporary failure|timed out|SSLError|ProxyError": """The package index \
could not be reached. Check the network; pip's own settings apply (HTTPS_PROXY, PIP_INDEX_URL, \
PIP_CERT).""",
    "No matching distribution": """A package has no prebuilt wheel for this system. Supported are \
Linux with glibc 2.28 or later (x86_64, aarch64), Windows (x86_64) and macOS 14 or later (arm64).""",
    "DO NOT MATCH THE HASHES": """A download is not the file that requirements/ names: it was \
damaged on its way, or the index serves another one.""",
}
"""What a log that matches the regular expression means for the reader; the first that fits."""

UV_SETTINGS = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}
"""pip's settings that uv does not read, and what they are called there."""

WINDOW = (500, 200)
"""Lines and columns of the terminal that uv sees: room for every bar that it draws."""


def install(venv: Venv, lock: int) -> None:
    """Make the environment and install its packages into it. Raises SetupError."""
    home = venv.base or venv
    with open(venv.file(LOG), "w", encoding="utf-8") as log:
        commands = Commands(venv, log, lock)
        without_pip = ["--without-pip"] if venv.base else []
        create = [sys.executable, "-I", "-m", "venv", *without_pip, venv.path]
        commands.must("making the environment", create)
        if venv.base:
            _show_packages(venv.base, venv)
        else:
            uv_lock = os.path.join(os.path.dirname(venv.lock_file), "installer.txt")
            commands.succeeds("getting uv, which installs", pip_command(venv, uv_lock))
        uv = shutil.which("uv", path=home.scripts)
        if uv:
            settings = {**_settings_of_pip(home), **os.environ}
            if commands.succeeds("installing packages", uv_command(uv, venv), settings):
                return
        say("uv did not work, so pip takes over, which is slower")
        commands.must("installing packages with pip", pip_command(venv, venv.lock_file))


def uv_command(uv: str, venv: Venv) -> list[str]:
    """Let uv install the environment's lock file, unmoved by settings in the user's folder."""
    # Users who cannot write into a shared environment cannot add the bytecode either.
    bytecode = ["--compile-bytecode"] if venv.cached else []
    into = ["--directory", venv.path, "--python", venv.python, *bytecode]
    # What builds iopath is in the lock as well.
    builds = ["--build-constraints", venv.lock_file, "--require-build-hashes"]
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
    packages, theirs = (
        sysconfig.get_path("purelib", "venv", {"base": place.path}) for place in (venv, base)
    )
    with open(os.path.join(packages, "kiss3d-run.pth"), "w", encoding="utf-8") as file:
        file.write(os.path.relpath(theirs, packages))


def _settings_of_pip(venv: Venv) -> dict[str, str]:
    """The index and the way to it, from pip's settings, in uv's words."""
    command = [venv.python, "-I", "-m", "pip", "config", "list"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False).stdout
    found: dict[str, str] = {}
    for line in listed.splitlines():  # `:env:.index-url='https://…'` comes before `global.…`
        key, _, value = line.partition("=")
        name = UV_SETTINGS.get(key.rpartition(".")[2])
        if name:
            found.setdefault(name, ast.literal_eval(value))
    return found


class Commands:
    """The commands of an installation, one after the other, with their output in its log."""

    def __init__(self, venv: Venv, log: IO[str], lock: int) -> None:
        self._venv, self._log, self._lock = venv, log, lock

    def must(self, what: str, command: Sequence[str]) -> None:
        """Run a command and show how it goes. Raises SetupError if it fails."""
        if not self.succeeds(what, command):
            raise SetupError(_explain(what, self._venv.file(LOG)))

    def succeeds(
        self, what: str, command: Sequence[str], env: Mapping[str, str] = os.environ
    ) -> bool:
        """The same, and tell whether it succeeded."""
        say(what)
        self._log.write(f"$ {' '.join(command)}\n")
        reader, writer = _terminal()
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env={**env, "TERM": "xterm", "NO_COLOR": "1"},
                pass_fds=() if sys.platform == "win32" else (self._lock,),
            )
        finally:
            os.close(writer)
        progress = Progress(what)
        follower = threading.Thread(target=self._follow, args=(reader, progress), daemon=True)
        follower.start()
        try:
            while child.poll() is None:
                progress.show()
                follower.join(timeout=0.5)
                if not follower.is_alive():
                    child.wait()
        finally:
            child.terminate()
            child.wait()
            follower.join()
            progress.close()
        self._log.write(f"status {child.returncode}\n")
        self._log.flush()
        return child.returncode == 0

    def _follow(self, reader: int, progress: Progress) -> None:
        with open(reader, encoding="utf-8", errors="replace") as output, suppress(OSError):
            for line in output:  # a terminal's end is an OSError
                text = progress.saw(line)
                if text:
                    self._log.write(f"{text}\n")
                    self._log.flush()


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
    advice = next((advice for pattern, advice in ADVICE.items() if re.search(pattern, text)), "")
    return "\n".join(
        [f"{what}: failed.", "", tail, ""]
        + ([advice] if advice else [])
        + [f"The whole log is {log}. The next start begins anew."]
    )
