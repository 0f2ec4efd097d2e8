"""Fill a virtual environment with the packages that pyproject.toml asks for, and show how it goes.

Imported only when there is something to install. Standard library only.
"""

from __future__ import annotations

import glob
import re
import subprocess
import sys
import threading
import time
from typing import IO, Callable, Iterator, NamedTuple, Sequence

from _venv import LOG, SetupError, Venv, say

SHOW_EVERY_S = 10.0
"""Between two progress lines where stderr is no terminal."""

TAIL_LINES = 12
"""How much of the log a failure shows."""

ADVICE = {
    "No space left on device": """The disk is full. KISS3D_VENV_CACHE moves the environment to \
another one, TMPDIR pip's scratch files, PIP_CACHE_DIR its downloads.""",
    "ensurepip is not available|No module named ensurepip": """This Python comes without venv: \
install your system's python3-venv package.""",
    "connection broken|[Tt]emporary failure|timed out|SSLError|ProxyError": """The package index \
could not be reached. Check the network; pip's own settings apply (HTTPS_PROXY, PIP_INDEX_URL, \
PIP_CERT).""",
    "No matching distribution": """A package has no prebuilt wheel for this system. Supported are \
Linux with glibc 2.28 or later (x86_64, aarch64), Windows (x86_64) and macOS (arm64).""",
}
"""What a log that matches the regular expression means for the reader; the first that fits."""


class Step(NamedTuple):
    """One command of an installation."""

    what: str
    command: Sequence[str]


Steps = Callable[[Venv], Iterator[Step]]


def with_pip(venv: Venv, lock: int) -> None:
    """Make the environment and let pip install the requirements into it. Raises SetupError."""
    run_steps(pip_steps, venv, lock)


def pip_steps(venv: Venv) -> Iterator[Step]:
    """Wheels only, so nothing compiles.

    The exception is iopath, which pytorch3d needs: it is published as source alone, and is pure
    Python.
    """
    yield Step("making the environment", (sys.executable, "-I", "-m", "venv", venv.path))
    listed = venv.file("requirements.txt")
    with open(listed, "w", encoding="utf-8") as file:
        file.writelines(f"{requirement}\n" for requirement in venv.requirements)
    options = ("--no-input", "--disable-pip-version-check", "--progress-bar=off")
    wheels = ("--only-binary=:all:", "--no-binary=iopath")
    pip = (venv.python, "-I", "-m", "pip", "install", *options, *wheels, "-r", listed)
    yield Step(f"installing {len(venv.requirements)} packages and what they need", pip)


def run_steps(steps: Steps, venv: Venv, lock: int) -> None:
    """Run the commands one after the other, their output in the environment's log."""
    with open(venv.file(LOG), "w", encoding="utf-8") as log:
        for step in steps(venv):
            say(step.what)
            status = _run(step, log, _Progress(step.what, venv), lock)
            if status != 0:
                raise SetupError(_explain(step, status, venv))


def _run(step: Step, log: IO[str], progress: _Progress, lock: int) -> int:
    log.write(f"$ {' '.join(step.command)}\n")
    child = subprocess.Popen(
        step.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=() if sys.platform == "win32" else (lock,),
    )
    reader = threading.Thread(target=_copy, args=(child.stdout, log, progress), daemon=True)
    reader.start()
    try:
        while child.poll() is None:
            progress.show()
            reader.join(timeout=0.5)
            if not reader.is_alive():
                child.wait()
    finally:
        child.terminate()
        child.wait()
        reader.join()
        progress.close()
    return child.returncode


def _copy(output: IO[str], log: IO[str], progress: _Progress) -> None:
    with output:
        for line in output:
            log.write(line)
            log.flush()
            progress.saw(line)


class _Progress:
    """What the installer is doing: one changing line on a terminal, else a line now and then."""

    def __init__(self, what: str, venv: Venv) -> None:
        self._venv = venv
        self._unpacking = self._before = 0
        self._start = time.monotonic()
        self._next = self._start + SHOW_EVERY_S
        self._live = sys.stderr.isatty()
        self._now = what

    def saw(self, line: str) -> None:
        """Take note of a line of pip's."""
        verb, _, rest = line.strip().partition(" ")
        if verb == "Collecting":
            self._now = f"looking up {rest}"
        elif verb == "Downloading":
            self._now = f"downloading {rest.rsplit('/', 1)[-1]}"
        elif line.startswith("Installing collected packages:"):
            self._before = self._installed()
            self._unpacking = rest.count(",") + 1

    def show(self) -> None:
        """Say it, if it is time to."""
        now = time.monotonic()
        if self._unpacking:
            # pip says nothing for a minute or more here, so count what is there.
            there = self._installed() - self._before
            self._now = f"unpacked {there} of {self._unpacking} packages"
        text = f"{now - self._start:4.0f} s  {self._now}"
        if self._live:
            sys.stderr.write(f"\r{text[:78]}\x1b[K")
            sys.stderr.flush()
        elif now >= self._next:
            self._next = now + SHOW_EVERY_S
            say(text)

    def _installed(self) -> int:
        folder = "Lib" if sys.platform == "win32" else "lib/python*"
        return len(glob.glob(self._venv.file(f"{folder}/site-packages/*.dist-info")))

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _explain(step: Step, status: int, venv: Venv) -> str:
    with open(venv.file(LOG), encoding="utf-8") as file:
        text = file.read()
    tail = "\n".join(f"    {line}" for line in text.splitlines()[-TAIL_LINES:])
    advice = next((advice for pattern, advice in ADVICE.items() if re.search(pattern, text)), "")
    return "\n".join(
        [f"{step.what}: failed with status {status}.", "", tail, ""]
        + ([advice] if advice else [])
        + [f"The whole log is {venv.file(LOG)}. The next start begins anew."]
    )
