"""What a batch took as a whole: seconds, pictures a minute, and how busy it kept the cards.

Of its last go alone, as the records of its runs have it: a resumed batch is measured from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.record.manifest import Manifest


@dataclass(frozen=True)
class Attempt:
    """One attempt. card: "" for none; started: by the clock; compute: seconds of `seconds`."""

    card: str
    started: float
    seconds: float
    compute: float


@dataclass(frozen=True)
class Go:
    """What totals need of a run's record. began: when the last go of its batch did."""

    began: float
    finished: float
    done: bool
    attempts: tuple[Attempt, ...]


def go_of(manifest: Manifest) -> Go | None:
    """None: the run was not closed."""
    if not manifest.finished:
        return None
    attempts = tuple(
        Attempt(row.card, row.started, row.seconds, row.timings.get("compute", row.seconds))
        for node in manifest.nodes.values()
        for row in node.attempts
    )
    finished = manifest.finished
    return Go(finished - manifest.wall_seconds, finished, manifest.state == "done", attempts)


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


def totals_of(goes: Iterable[Go]) -> Totals:
    """The last go of these runs, which began when the first of them that it closed did."""
    ended = list(goes)
    if not ended:
        return Totals(0.0, 0, 0, None)
    latest = max(go.finished for go in ended)
    began = min(go.began for go in ended)
    computed = sum(go.done and any(one.started >= began for one in go.attempts) for go in ended)
    on_cards = [one for go in ended for one in go.attempts if one.card and one.started >= began]
    cards, busy = len({row.card for row in on_cards}), None
    if on_cards:
        last = max(row.started + row.seconds for row in on_cards)
        span = last - min(row.started for row in on_cards)
        worked = sum(row.compute for row in on_cards)
        busy = min(1.0, worked / (cards * span)) if span > 0 else 1.0
    return Totals(latest - began, computed, cards, busy)
