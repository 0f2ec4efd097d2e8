"""How long a run will still take, from what the plan expects and what this run has measured.

expected   seconds a node takes for one picture, from the table of measurements
measured   how long the nodes took that are done, here and now: where a picture of a batch was
           there already the mean of those counts; else the table's figure, times how much
           slower or faster than the table this machine has been so far
steps      the share of a running node's steps that is done says what is left of it
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.pipeline.graph import Node
from orchestrator.running.run_events import RunEvent

Expected: TypeAlias = Mapping[str, Mapping[int, tuple[str, float]]]
"""Node -> rung -> its device ("cpu" or "cuda") and the seconds that it takes for one picture."""
_DOUBT_SECONDS = 2.0
"""Of the table's figures that are trusted beforehand: a short node says little of a machine."""
_SURE_SHARE = 0.2
"""Of a node's steps; from there on they alone say how long it takes."""
_CALM_SECONDS = 4.0
"""In which what is shown comes nearer to a new estimate by two thirds."""


def expected_seconds(nodes: Iterable[Node]) -> Expected:
    """What the table of measurements says of these nodes' rungs, where it says anything."""
    return {
        node.name: {
            rung: (node.config.attempts[rung].device, prediction.seconds)
            for rung, prediction in node.predictions.items()
            if prediction.seconds > 0.0
        }
        for node in nodes
    }


@dataclass
class _Running:
    began: float
    rung: int
    step: int = 0
    total: int = 0
    stepped: float = 0.0


@dataclass
class _Tally:
    """One node: jobs that are through with it, and those that it computed with their seconds."""

    through: set[str] = field(default_factory=set)
    computed: int = 0
    seconds: float = 0.0
    rung: int = 0
    running: dict[str, _Running] = field(default_factory=dict)


class TimeLeft:
    """Told of all events; asked as often as somebody looks. now: the clock, in seconds."""

    def __init__(
        self,
        nodes: Iterable[str],
        jobs: int,
        expected: Expected,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = {name: _Tally() for name in nodes}
        self._jobs = jobs
        self._expected = expected
        self._now = now
        self._began = now()
        self._end: float | None = None
        self._looked = 0.0

    def hear(self, event: RunEvent) -> None:
        """Take in an event; those that say nothing of time are ignored."""
        tally = self._nodes.get(event.node)
        if tally is None or not event.job:
            return
        if event.kind == "started":
            tally.rung = int(event.fields.get("rung", 0))
            tally.running[event.job] = _Running(self._now(), tally.rung)
        elif event.kind == "progress" and event.job in tally.running:
            running = tally.running[event.job]
            step, total = event.fields["step"], event.fields["total"]
            if step > running.step or total != running.total:
                running.step, running.total, running.stepped = step, total, self._now()
        elif event.kind in ("done", "reused"):
            tally.running.pop(event.job, None)
            tally.through.add(event.job)
            if event.kind == "done":
                tally.computed += 1
                tally.seconds += event.fields["seconds"]
            else:
                self._end = None  # a fact, not another estimate: no need to approach it
        elif event.kind == "failed":
            tally.running.pop(event.job, None)
            if event.fields.get("final"):
                for other in self._nodes.values():  # it goes no further
                    other.through.add(event.job)

    def of_node(self, name: str) -> float | None:
        """Seconds that a node still needs for all jobs; None: nobody knows."""
        tally = self._nodes[name]
        running = list(tally.running.items())  # the screen asks from a thread of its own
        waiting = (
            self._jobs - len(tally.through) - sum(job not in tally.through for job, _ in running)
        )
        left = 0.0
        if waiting > 0:
            one = self._one(name, tally.rung)
            if one is None:
                return None
            left += waiting * one
        for _, one_job in running:
            rest = self._rest(name, one_job)
            if rest is None:
                return None
            left += rest
        return left

    def of_all(self) -> float | None:
        """Seconds until the end; None: nobody knows. It follows new estimates slowly."""
        now = self._now()
        each = [self.of_node(name) for name in self._nodes]
        if None in each:
            self._end = None
            return None
        end = now + sum(left for left in each if left is not None) / self._side_by_side(now)
        if self._end is None:
            self._end = end
        else:
            share = 1.0 - math.exp(-(now - self._looked) / _CALM_SECONDS)
            self._end += share * (end - self._end)
        self._looked = now
        return max(0.0, self._end - now)

    def _one(self, name: str, rung: int) -> float | None:
        """Seconds for one job of a node that has not begun it."""
        tally = self._nodes[name]
        if tally.computed:
            return tally.seconds / tally.computed
        if rung not in self._expected.get(name, {}):
            return None
        device, seconds = self._expected[name][rung]
        return seconds * self._pace(device)

    def _pace(self, device: str) -> float:
        """How much longer than in the table nodes take on a device of this kind."""
        measured = expected = _DOUBT_SECONDS
        for name, tally in self._nodes.items():
            kind, seconds = self._expected.get(name, {}).get(tally.rung, ("", 0.0))
            if kind == device and tally.computed:
                measured += tally.seconds / tally.computed
                expected += seconds
        return measured / expected

    def _rest(self, name: str, running: _Running) -> float | None:
        """Seconds that a running node still needs for this job."""
        one, share = self._one(name, running.rung), 0.0
        if running.step and running.total:
            share = running.step / running.total
            by_steps = (running.stepped - running.began) / share
            trust = 1.0 if one is None else min(1.0, share / _SURE_SHARE)
            one = by_steps if one is None else one + trust * (by_steps - one)
        if one is None:
            return None
        return max(0.0, one - (self._now() - running.began))

    def _side_by_side(self, now: float) -> float:
        """How many nodes of a batch have computed at a time so far, on average."""
        if self._jobs < 2:
            return 1.0
        busy = sum(
            tally.seconds + sum(now - one.began for one in list(tally.running.values()))
            for tally in self._nodes.values()
        )
        return max(1.0, busy / max(now - self._began, 1.0))


def in_words(seconds: float | None) -> str:
    """Rounded the more, the longer it is; "-" where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 55.0:
        return f"{math.ceil(seconds)} s" if seconds <= 10.0 else f"{5 * math.ceil(seconds / 5)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"
