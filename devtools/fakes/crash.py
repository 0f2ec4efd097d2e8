"""The command line, killed at a chosen change that it makes to the disk.

A `Parent` is a process that has everything imported and forks for each command: a crash test runs
hundreds. Only the command's own process is watched and killed, not the stages' processes.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from devtools.fakes.tools import cli_environment

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink"}
_NEVER = 0


@dataclass(frozen=True)
class Command:
    """One command line.

    root      the folder whose changes count; also the working directory
    at        which change it does not live to make, from 1; 0: it lives
    of        changes of files and folders whose names hold this text
    how       the signal that ends it
    survivors a folder to make with what a power cut when it ends would leave of `root`
    """

    arguments: list[str]
    root: str
    at: int = _NEVER
    of: str = ""
    how: int = signal.SIGKILL
    survivors: str = ""


@dataclass(frozen=True)
class Ended:
    """code as subprocess has it: negative for a signal. text: stdout and stderr."""

    code: int
    text: str


class Parent:
    """Commands one after another, each in a fork of one prepared process."""

    def __init__(self, temporary: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "devtools.fakes.crash"],
            env={**cli_environment(), "TMPDIR": str(temporary)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: Command) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(command)), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Disk:
    """Counts this process's changes below a folder, keeps what is durable, and kills in time.

    Durable is what POSIX promises: a file's content as of its last fsync, a folder's entries as of
    the folder's. What is there at the beginning is durable.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._root = os.path.realpath(command.root)
        self._lock = threading.RLock()
        self._made = 0
        self._dying = False
        self._contents: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, tuple[int, bool]]] = {}
        self._kept_open: list[int] = []  # so that no inode is freed, and its number used again
        self._fsync, self._open = os.fsync, io.open
        for folder, _, files in os.walk(self._root):
            self._keep(folder)
            for name in files:
                self._keep(os.path.join(folder, name))
        os.fsync = self._counted_fsync  # type: ignore[assignment]
        io.open = builtins.open = self._counted_open
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]  # copies go through write()
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            made = isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_TRUNC)
            if made and isinstance(arguments[0], str | bytes):
                self._change(arguments[0])
        elif event in _CHANGES:
            self._change(arguments[0])

    def _change(self, path: Any, last_words: Any = None) -> None:
        """One more change is about to happen."""
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
        inside = f"{os.path.realpath(folder)}/".startswith(f"{self._root}/")
        if self._dying or not inside or self._command.of not in name:
            return
        with self._lock:
            self._made += 1
            if self._made != self._command.at:
                return
            self._dying = True  # what follows is no change of the program's
            if last_words is not None:
                last_words()
            self.cut()
            os.kill(os.getpid(), self._command.how)

    def cut(self) -> None:
        """Make the folder with what is durable by now."""
        self._dying = True
        if self._command.survivors:
            self._materialise(os.stat(self._root).st_ino, self._command.survivors)

    def _counted_fsync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self._change(path if path != self._root else f"{path}/.")
        self._fsync(descriptor)
        with self._lock:
            if not self._dying:
                self._keep(descriptor)

    def _counted_open(self, file: Any, mode: str = "r", *others: Any, **options: Any) -> Any:
        stream = self._open(file, mode, *others, **options)
        if not set(mode) & set("wax+"):
            return stream
        path = os.readlink(f"/proc/self/fd/{stream.fileno()}")
        write = stream.write

        def counted(content: Any) -> Any:
            def half() -> None:
                write(content[: len(content) // 2])
                stream.flush()

            self._change(path, half)
            return write(content)

        stream.write = counted  # type: ignore[method-assign]
        return stream

    def _keep(self, file: int | str) -> None:
        descriptor = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY)
        self._kept_open.append(descriptor)
        what = os.fstat(descriptor)
        if stat.S_ISDIR(what.st_mode):
            with os.scandir(descriptor) as entries:
                self._entries[what.st_ino] = {
                    entry.name: (entry.inode(), entry.is_dir()) for entry in entries
                }
        else:
            with self._open(f"/proc/self/fd/{descriptor}", "rb") as stream:
                self._contents[what.st_ino] = stream.read()

    def _materialise(self, inode: int, target: str) -> None:
        os.mkdir(target)
        for name, (child, is_folder) in self._entries.get(inode, {}).items():
            path = os.path.join(target, name)
            if is_folder:
                self._materialise(child, path)
            else:
                with self._open(path, "wb") as stream:
                    stream.write(self._contents.get(child, b""))


def import_all() -> None:
    """What the commands need, so that a fork is one at once."""
    import numpy  # noqa: F401
    import PIL.Image  # noqa: F401

    from orchestrator.cli import batch, live_view, run  # noqa: F401
    from orchestrator.processes import workspace  # noqa: F401


def _serve() -> None:
    import_all()
    answers = os.fdopen(os.dup(1), "w")
    for command in _commands():
        with io.open(f"{command.root}.text", "w+b") as text:  # noqa: UP020 (not the counted one)
            pid = os.fork()
            if pid == 0:
                become(command, text.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            text.seek(0)
            told = text.read().decode(errors="replace")
        print(json.dumps({"code": code, "text": told}), file=answers, flush=True)


def _commands() -> Iterator[Command]:
    for line in sys.stdin:
        yield Command(**json.loads(line))


def become(command: Command, text: int) -> NoReturn:
    """In a fork: be the command, with its stdout and stderr in the file `text`, and end."""
    from orchestrator.cli import main

    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(text, 1)
        os.dup2(text, 2)
        os.chdir(command.root)
        disk = Disk(command) if command.at or command.survivors else None
        try:
            main(command.arguments)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if disk is not None:
            disk.cut()
    except Exception:  # noqa: BLE001 (a fork must not go on with its parent's work)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
