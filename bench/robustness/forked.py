"""Commands of this program, each in a fork of a prepared process, for benches that need thousands.

A `Place` is where one command after another works, with a temporary folder of its own, by which
its processes are known.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from devtools.fakes.crash import Command, become, import_all
from orchestrator.system.private_folders import PREFIX
from stages.process.parent_watch import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = """[kiss3d.stages]
fake.source = devtools.fakes.stages:Source
fake.trouble = devtools.fakes.stages:Trouble
fake.sink = devtools.fakes.stages:Sink
fake.cast = devtools.fakes.stages:Cast
"""


def install_fakes(folder: Path) -> None:
    """Make the fake stages an installed package, for this process and those that it starts."""
    info = folder / "kiss3d_fakes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kiss3d-fakes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    paths = [str(folder), str(ROOT)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])


def prepare() -> None:
    """Once in a process that will fork: import what the commands need, and dump no cores."""
    import filelock  # noqa: F401
    import pynvml  # noqa: F401
    import rich.cells

    from devtools.fakes import stages  # noqa: F401

    import_all()
    from stages.contract.registry import known_stages

    rich.cells.cell_len("é")
    known_stages()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True)
class Ended:
    """code: negative for a signal, None where it was killed because it took too long. seconds:
    by the clock; cpu: of the processor; memory: its peak in bytes, with what it shares."""

    code: int | None
    text: str
    seconds: float
    cpu: float
    memory: int


class Running:
    """One command in a fork. before: what the fork does first; name: of commands at once, each its
    own."""

    def __init__(self, command: Command, before: Callable[[], None], name: str = "") -> None:
        self._text = Path(f"{command.root}{name}.text")
        self._began = time.monotonic()
        self._code: int | None = None
        self._cpu, self._memory = 0.0, 0
        parent = os.getpid()
        with self._text.open("wb") as text:
            self.pid = os.fork()
            if self.pid == 0:
                die_with_parent(parent)
                before()
                become(command, text.fileno())

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        if self._code is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._cpu, self._memory = used.ru_utime + used.ru_stime, used.ru_maxrss << 10
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, limit: float) -> Ended:
        """Its end; after `limit` seconds it is killed."""
        hung = False
        while self.poll() is None:
            if not hung and time.monotonic() - self._began > limit:
                hung = True
                self.kill()
            time.sleep(0.002)
        told = self._text.read_text(errors="replace")
        seconds = time.monotonic() - self._began
        return Ended(None if hung else self._code, told, seconds, self._cpu, self._memory)


class Place:
    """A folder in which commands work: `root`, and `tmp` as their temporary folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.tmp = base / "tmp"
        self.anew()

    def anew(self) -> None:
        """Empty it, and have the commands to come use it."""
        shutil.rmtree(self.base, ignore_errors=True)
        self.root.mkdir(parents=True)
        self.tmp.mkdir()
        os.environ["TMPDIR"] = str(self.tmp)
        tempfile.tempdir = None  # forget the one that was looked up before

    def start(
        self,
        *arguments: str,
        at: int = 0,
        survivors: str = "",
        before: Callable[[], None] = lambda: None,
        name: str = "",
    ) -> Running:
        """at, survivors: as in `devtools.fakes.crash.Command`; before, name: as in `Running`."""
        command = Command([*arguments], str(self.root), at, survivors=survivors)
        return Running(command, before, name)

    def processes(self) -> set[int]:
        """Those alive that a command here has started, whatever has become of it."""
        mark = f"TMPDIR={self.tmp}\0".encode()
        found = set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes():
                    found.add(int(name))
        return found

    def private_folders(self) -> list[Path]:
        return list(self.tmp.glob(f"{PREFIX}*"))

    def await_end(self, seconds: float) -> tuple[float, int, int]:
        """When all processes and private folders had gone, and how many are left after `seconds`;
        these processes are killed."""
        began = time.monotonic()
        while (left := self.processes()) or self.private_folders():
            if time.monotonic() - began > seconds:
                break
            time.sleep(0.02)
        took, folders = time.monotonic() - began, len(self.private_folders())
        for pid in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        return took, len(left), folders
