"""Show a run while it goes: a live table in a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout holds results alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from orchestrator.pipeline.graph import Node
from orchestrator.running.pictures_through import PicturesThrough
from orchestrator.running.progress_rows import Row
from orchestrator.running.run_events import Observer, RunEvent
from orchestrator.running.time_left import TimeLeft, expected_seconds, in_words
from orchestrator.system.terminal import open_console, say_to, visible

if TYPE_CHECKING:
    from rich.table import Table


_PROGRESS_SECONDS = 5.0
"""Between two progress lines of one node; a terminal shows every step instead."""
_BATCH_SECONDS = 15.0
"""Between two lines of how far a batch is, where no picture comes through meanwhile."""
_STOPPING = "stopping; Ctrl-C again stops at once"


class RunView(Observer, Protocol):
    """An observer that is shown between `__enter__` and `__exit__`."""

    def __enter__(self) -> RunView: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_view(nodes: Iterable[Node], jobs: int, quiet: bool, verbose: bool) -> RunView:
    """The view that fits: none when quiet, live on a terminal, lines otherwise."""
    nodes = list(nodes)
    if quiet:
        return Lines(sys.stderr, jobs, only_failures=True)
    names = [node.name for node in nodes]
    left = TimeLeft(names, jobs, expected_seconds(nodes))
    pictures = PicturesThrough(names, jobs, left) if jobs > 1 else None
    if sys.stderr.isatty() and not verbose:
        return Live(names, jobs, left, pictures)
    return Lines(sys.stderr, jobs, processes=verbose, left=left, pictures=pictures)


class Lines:
    """One line an event; progress at most every few seconds.

    pictures  of a batch: how far it is, told whenever a picture is over, and now and then
    """

    def __init__(
        self,
        stream: TextIO,
        jobs: int,
        only_failures: bool = False,
        processes: bool = False,
        left: TimeLeft | None = None,
        pictures: PicturesThrough | None = None,
    ) -> None:
        self._left = left
        self._pictures = pictures
        self._stream = stream
        self._jobs = jobs
        self._only_failures = only_failures
        self._processes = processes
        self._began = self._told = time.monotonic()
        self._last: dict[tuple[str, str], float] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def notify(self, event: RunEvent) -> None:
        if self._left is not None:
            self._left.hear(event)
        if self._only_failures and event.kind != "failed":
            return
        if _is_told_at_the_end(event, self._jobs):
            return
        text = self._text(event)
        if text:
            where = f"{event.job}: " if self._jobs > 1 and event.job else ""
            self._say(f"{where}{text}")
        if self._pictures is not None:
            over = self._pictures.hear(event)
            if over or time.monotonic() > self._told + _BATCH_SECONDS:
                self._told = time.monotonic()
                self._say(f"batch: {self._pictures}")

    def _say(self, text: str) -> None:
        say_to(self._stream, f"[{time.monotonic() - self._began:7.2f}s] {text}")

    def _text(self, event: RunEvent) -> str:
        fields = event.fields
        if event.kind == "progress":
            key = (event.job, event.node)
            now = time.monotonic()
            if now - self._last.get(key, now) < _PROGRESS_SECONDS:
                return ""
            self._last[key] = now
            note = f" {fields['note']}" if fields["note"] else ""
            seconds = self._left.of_all() if self._left and self._jobs == 1 else None
            left = "" if seconds is None else f" ({in_words(seconds)} left)"
            return f"{event.node}: step {fields['step']}/{fields['total']}{left}{note}"
        if event.kind == "started":
            self._last[event.job, event.node] = time.monotonic()
            start = "warm" if fields["warm"] else "cold"
            nth = f", attempt {fields['attempt']}" if fields["attempt"] > 1 else ""
            return f"{event.node}: started on {fields['device']} ({start}{nth})"
        if event.kind in ("done", "failed"):
            self._last.pop((event.job, event.node), None)
        if event.kind == "done":
            lower = f" (degraded: {fields['degraded']})" if fields["degraded"] else ""
            return f"{event.node}: done in {fields['seconds']:.2f} s{lower}"
        if event.kind == "reused":
            return f"{event.node}: unchanged, taken from {fields['source']}"
        if event.kind == "warning":
            return _warning_text(event)
        if event.kind == "failed":
            return _failure_text(event)
        if event.kind == "stopping":
            return _STOPPING
        if self._processes and event.kind == "process":
            return f"{event.node}: process is {fields['state']}"
        if self._processes and event.kind == "gone":
            return f"{event.node}: process gone, memory: {fields['released']}"
        return ""


def _is_told_at_the_end(event: RunEvent, jobs: int) -> bool:
    """A picture that cannot be used ends a run of one at once, with the same words."""
    return jobs == 1 and event.kind == "failed" and event.fields["kind"] == "bad_input"


def _warning_text(event: RunEvent) -> str:
    return f"{event.node}: warning: {event.fields['text']}"


def _failure_text(event: RunEvent) -> str:
    fields = event.fields
    text = f"{event.node}: {fields['kind']}: {fields['message']} [{fields['move']}]"
    return text if not fields.get("log") else f"{text}\n            log: {fields['log']}"


class Live:
    """A rich table with a row a node: state, step/total, what is left, elapsed, attempt, memory.

    pictures  of a batch: how far it is, below the table
    """

    def __init__(
        self,
        nodes: Iterable[str],
        jobs: int,
        left: TimeLeft | None = None,
        pictures: PicturesThrough | None = None,
    ) -> None:
        from rich.live import Live as RichLive

        self._rows = {name: Row(name) for name in nodes}
        self._left = left or TimeLeft(self._rows, jobs, {})
        self._jobs = jobs
        self._through = pictures
        console = open_console(err=True)
        self._live = RichLive(self, console=console, refresh_per_second=8, transient=True)
        self._console = console

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def notify(self, event: RunEvent) -> None:
        self._left.hear(event)
        if self._through is not None:
            self._through.hear(event)
        if event.kind == "stopping":
            self._console.print(_STOPPING)
        row = self._rows.get(event.node)
        if row is None:
            return
        self._rows[event.node] = row.after(event)
        if event.kind == "failed" and not _is_told_at_the_end(event, self._jobs):
            self._console.print(visible(_failure_text(event)))
        elif event.kind == "warning":
            where = f"{event.job}: " if self._jobs > 1 else ""
            self._console.print(visible(f"{where}{_warning_text(event)}"))

    def __rich__(self) -> Table:
        """What is on the screen now."""
        from rich.table import Table
        from rich.text import Text

        from orchestrator.system.text import format_size

        if self._through is not None:
            caption: str | None = str(self._through)
        else:
            left = self._left.of_all()
            caption = None if left is None else f"{in_words(left)} left"
        table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
        retried = any(row.attempt > 1 for row in self._rows.values())
        attempt = ("attempt",) if retried else ()
        one, all_of_them = ("step", "left") if self._jobs == 1 else ("one's step", "left of all")
        for title in ("node", "state", one, all_of_them, "elapsed", *attempt, "RSS", "VRAM"):
            justify: Literal["left", "right"] = "left" if title in ("node", "state") else "right"
            table.add_column(title, justify=justify, no_wrap=True)
        table.add_column("")  # what is being done: it alone gives way in a narrow terminal
        for name, row in self._rows.items():
            running = row.state == "running"
            state = row.state if self._jobs == 1 else f"{row.state} {row.done}/{self._jobs}"
            if row.failed and self._jobs > 1:
                state += f" ({row.failed} failed)"
            table.add_row(
                name,
                state,
                f"{row.step}/{row.total}" if running and row.total else "",
                in_words(self._left.of_node(name)) if running else "",
                f"{row.elapsed:.1f} s" if row.elapsed else "",
                *([str(row.attempt) if row.attempt > 1 else ""] if retried else []),
                format_size(row.rss),
                format_size(row.vram),
                Text(
                    visible(row.note, one_line=True) if running else "",
                    no_wrap=True,
                    overflow="ellipsis",
                ),
            )
        return table
