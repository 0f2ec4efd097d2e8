"""Show all shards of a batch while they are worked on: as a batch of one machine, and how many
pictures are through."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from orchestrator.api.ray_progress import PICTURES, SHARD
from orchestrator.cli.live_view import Lines, Live, RunView
from orchestrator.pipeline.graph import Node
from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft, expected_seconds, in_words
from orchestrator.system.terminal import visible

if TYPE_CHECKING:
    from rich.table import Table


def open_shards_view(
    nodes: Iterable[Node], jobs: int, todo: int, quiet: bool, verbose: bool
) -> RunView:
    """As `open_view`. jobs: pictures of the whole batch; todo: of the shards that are to do."""
    nodes = list(nodes)
    if quiet:
        return Lines(sys.stderr, jobs, only_failures=True)
    names = [node.name for node in nodes]
    left = ShardsLeft(names, todo, expected_seconds(nodes))
    if sys.stderr.isatty() and not verbose:
        return ShardsLive(names, todo, left)
    return ShardsLines(sys.stderr, max(2, jobs), verbose, left)


class ShardsLeft(TimeLeft):
    """How long all shards will still take: each begins processes and loads models of its own, which
    takes a share of the time that what is done so far shows."""

    def of_all(self) -> float | None:
        """Seconds until the end; None: nobody knows."""
        each = [self.of_node(name) for name in self._nodes]
        left = sum(seconds for seconds in each if seconds is not None)
        done = sum(tally.seconds for tally in self._nodes.values())
        if None in each or done < _SURE_SHARE * (done + left):
            return super().of_all()
        return (self._now() - self._began) * left / done


_SURE_SHARE = 0.05
"""Of all work; from there on what is done tells how long the rest takes."""


def through(event: RunEvent, seconds: float | None) -> str:
    """How far a batch is, of an event of the kind `PICTURES`."""
    fields = event.fields
    over = fields["good"] + fields["failed"]
    text = f"{over} of {fields['total']} pictures"
    if fields["failed"]:
        text += f", {fields['failed']} failed"
    return (
        text if seconds is None or over == fields["total"] else f"{text}, {in_words(seconds)} left"
    )


class ShardsLines(Lines):
    """A line an event, and one whenever pictures are through."""

    def __init__(self, stream: TextIO, jobs: int, processes: bool, left: TimeLeft) -> None:
        super().__init__(stream, jobs, processes=processes, left=left)
        self._time_left = left

    def _text(self, event: RunEvent) -> str:
        if event.kind == PICTURES:
            return through(event, self._time_left.of_all())
        if event.kind == SHARD:
            return str(event.fields["text"])
        return super()._text(event)


class ShardsLive(Live):
    """The table of a run, with the number of pictures below it."""

    def __init__(self, nodes: Iterable[str], jobs: int, left: TimeLeft) -> None:
        self._pictures: RunEvent | None = None  # first: the table is drawn once at once
        super().__init__(nodes, max(2, jobs), left)

    def notify(self, event: RunEvent) -> None:
        if event.kind == PICTURES:
            self._pictures = event
        elif event.kind == SHARD:
            self._console.print(visible(str(event.fields["text"])))
        else:
            super().notify(event)

    def __rich__(self) -> Table:
        table = super().__rich__()
        if self._pictures is not None:
            table.caption = through(self._pictures, self._left.of_all())
        return table
