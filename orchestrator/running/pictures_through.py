"""How far a batch is: pictures that are through, how many a minute, and how long the rest takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft, in_words


class PicturesThrough:
    """Told of all events of a batch of so many pictures; `left` hears them too, from elsewhere.

    now: the clock, in seconds
    """

    def __init__(
        self,
        nodes: Collection[str],
        pictures: int,
        left: TimeLeft,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = len(nodes)
        self._pictures = pictures
        self._left = left
        self._now = now
        self._began = now()
        self._made: Counter[str] = Counter()
        self._computed: set[str] = set()
        self._over: set[str] = set()
        self._failed = 0
        self._fresh = 0

    def hear(self, event: RunEvent) -> bool:
        """Take in an event; whether a picture is over with it."""
        job = event.job
        if not job or job in self._over:
            return False
        if event.kind == "failed" and event.fields.get("final"):
            self._failed += 1
        elif event.kind in ("done", "reused"):
            self._made[job] += 1
            if event.kind == "done":
                self._computed.add(job)
            if self._made[job] < self._nodes:
                return False
        else:
            return False
        self._over.add(job)
        self._fresh += job in self._computed
        self._computed.discard(job)
        del self._made[job]  # of a Counter: also where it has none
        return True

    def __str__(self) -> str:
        """`7 of 24 pictures, 1 failed, 4.2 a minute, 2 min left`."""
        parts = [f"{len(self._over)} of {self._pictures} pictures"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        minutes = (self._now() - self._began) / 60.0
        if self._fresh and minutes > 0.0:
            parts.append(f"{self._fresh / minutes:.1f} a minute")
        seconds = self._left.of_all()
        if seconds is not None and len(self._over) < self._pictures:
            parts.append(f"{in_words(seconds)} left")
        return ", ".join(parts)
