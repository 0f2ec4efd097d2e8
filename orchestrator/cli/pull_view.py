"""What `models pull` shows: bars on a terminal, one line a file elsewhere, nothing with --json."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from orchestrator.system.terminal import open_console, say, visible
from orchestrator.weights.download import RemoteFile
from orchestrator.weights.pull import Result

if TYPE_CHECKING:
    from rich.progress import TaskID


class PullView:
    """`pull.PullObserver` on stderr. A context manager: the bars stop at its end."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._bars = _Bars() if not quiet and sys.stderr.isatty() else None

    def __enter__(self) -> PullView:
        if self._bars:
            self._bars.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.progress.stop()

    def plan(self, size: int) -> None:
        self._say(f"to download: {size / 1e9:.2f} GB")

    def meter(self, label: str) -> _Meter:
        return _Meter(self._bars, label, self.trying_again)

    def trying_again(self, text: str) -> None:
        """Said once: several files meet the same fault, each of them several times."""
        with self._lock:
            known = text in self._told
            self._told.add(text)
        if not known:
            self._say(text)

    def file_done(self, file: RemoteFile) -> None:
        if self._bars:
            self._bars.end(file.label)
        else:
            size = file.target.stat().st_size / 1e6
            self._say(f"{file.label}: {size:.1f} MB" + (", hash verified" if file.digest else ""))

    def model_done(self, result: Result) -> None:
        if result.state == "failed":
            self._say(f"error: {result.error}")
            if result.hint:
                self._say(f"  -> {result.hint}")
        else:
            word = "already here" if result.state == "here" else "done"
            self._say(f"{result.name}: {word}, {result.folder}")
        if result.note:
            self._say(f"warning: {result.note}")

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        with self._lock:
            if self._bars:
                self._bars.progress.console.print(visible(text))
            else:
                say(text, err=True)


class _Bars:
    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=open_console(err=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def task(self, label: str) -> TaskID:
        if label not in self._tasks:
            self._tasks[label] = self.progress.add_task(visible(label), total=None)
        return self._tasks[label]

    def end(self, label: str) -> None:
        self.progress.remove_task(self.task(label))


class _Meter:
    """`download.Meter` of one file."""

    def __init__(self, bars: _Bars | None, label: str, trying_again: Callable[[str], None]) -> None:
        self._bars = bars
        self._label = label
        self._trying_again = trying_again

    def at(self, done: int, total: int | None) -> None:
        if self._bars:
            task = self._bars.task(self._label)
            self._bars.progress.update(task, completed=done, total=total)

    def move(self, count: int) -> None:
        if self._bars:
            self._bars.progress.advance(self._bars.task(self._label), count)

    def trying_again(self, text: str) -> None:
        self._trying_again(f"{self._label}: {text}")
