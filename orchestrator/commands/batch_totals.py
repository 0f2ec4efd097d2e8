"""What a batch took as a whole: seconds, pictures a minute, and how busy it kept the cards.

Of its last go alone, as the records of its runs have it: a resumed batch is measured from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.record.manifest import AttemptRow, NodeRecord
from orchestrator.record.run_directory import RunDirectory


@dataclass(frozen=True)
class Totals:
    """One go of a batch.

    seconds     from its beginning until its last picture was over
    computed    pictures that came through with something computed for them
    cards       that computed
    cards_busy  0 to 1: how much of the time from the first job on a card to the end of the last
                one they computed, on average; loading, waiting, and a job's reading and writing
                are the rest. None: no card did anything
    """

    seconds: float
    computed: int
    cards: int
    cards_busy: float | None

    @property
    def a_minute(self) -> float:
        """Pictures a minute; 0 where none came through."""
        return 60.0 * self.computed / self.seconds if self.seconds > 0 else 0.0

    def as_row(self) -> dict[str, Any]:
        """For summary.json and --json."""
        return {
            "wall_seconds": round(self.seconds, 3),
            "computed": self.computed,
            "pictures_a_minute": round(self.a_minute, 3),
            "cards": self.cards,
            "cards_busy": None if self.cards_busy is None else round(self.cards_busy, 4),
        }

    def __str__(self) -> str:
        """A line for people, or "" where nothing was computed."""
        if not self.computed:
            return ""
        text = f"{self.computed} computed in {self.seconds:.1f} s, {self.a_minute:.1f} a minute"
        if self.cards_busy is None:
            return text
        cards = "the card" if self.cards == 1 else f"{self.cards} cards"
        return f"{text}; {cards} computed {self.cards_busy:.0%} of the time between first and last"


def totals_of(runs: Iterable[RunDirectory]) -> Totals:
    """The last go of these runs, which began when the first of them that it closed did."""
    ended = [run.manifest for run in runs if run.manifest.finished]
    if not ended:
        return Totals(0.0, 0, 0, None)
    latest = max(manifest.finished for manifest in ended)
    began = min(manifest.finished - manifest.wall_seconds for manifest in ended)
    rows = {id(m): [row for row in _rows(m.nodes.values()) if row.started >= began] for m in ended}
    computed = sum(manifest.state == "done" and bool(rows[id(manifest)]) for manifest in ended)
    on_cards = [row for found in rows.values() for row in found if row.card]
    cards, busy = len({row.card for row in on_cards}), None
    if on_cards:
        last = max(row.started + row.seconds for row in on_cards)
        span = last - min(row.started for row in on_cards)
        worked = sum(row.timings.get("compute", row.seconds) for row in on_cards)
        busy = min(1.0, worked / (cards * span)) if span > 0 else 1.0
    return Totals(latest - began, computed, cards, busy)


def _rows(nodes: Iterable[NodeRecord]) -> Iterator[AttemptRow]:
    for node in nodes:
        yield from node.attempts
