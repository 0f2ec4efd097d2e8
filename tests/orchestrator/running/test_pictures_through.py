"""How far a batch is."""

from __future__ import annotations

import pytest

from orchestrator.running.pictures_through import PicturesThrough
from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft

NODES = ("begin", "end")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def batch(clock):
    """Four pictures; each event is heard as the view hears it."""
    left = TimeLeft(NODES, 4, {}, clock)
    pictures = PicturesThrough(NODES, 4, left, clock)

    def hear(kind: str, job: str, node: str, **fields: object) -> bool:
        event = RunEvent(kind, job, node, fields)
        left.hear(event)
        return pictures.hear(event)

    hear.text = lambda: str(pictures)  # type: ignore[attr-defined]
    return hear


def computed(batch, clock: Clock, job: str, seconds: float) -> bool:
    over = False
    for node in NODES:
        batch("started", job, node, rung=0)
        clock.now += seconds / len(NODES)
        over = batch("done", job, node, seconds=seconds / len(NODES))
    return over


def test_a_picture_counts_when_its_last_stage_is_done(batch, clock):
    assert batch.text() == "0 of 4 pictures"
    batch("started", "a", "begin", rung=0)
    clock.now = 10.0
    assert not batch("done", "a", "begin", seconds=10.0)
    assert batch("done", "a", "end", seconds=0.0)
    assert batch.text().startswith("1 of 4 pictures, 6.0 a minute, ")
    assert batch.text().endswith(" left")


def test_what_was_there_already_does_not_make_it_faster(batch, clock):
    for node in NODES:
        batch("reused", "a", node, source="this run")
    assert batch.text() == "1 of 4 pictures"
    assert computed(batch, clock, "b", 30.0)
    assert batch.text().startswith("2 of 4 pictures, 2.0 a minute, ")


def test_a_failed_picture_is_over_and_counted_once(batch, clock):
    batch("started", "a", "begin", rung=0)
    assert not batch("failed", "a", "begin", final=False)
    assert batch("failed", "a", "begin", final=True)
    assert not batch("failed", "a", "end", final=True)
    assert batch.text() == "1 of 4 pictures, 1 failed"


def test_at_the_end_nothing_is_left(batch, clock):
    for job in "abcd":
        computed(batch, clock, job, 15.0)
    assert batch.text() == "4 of 4 pictures, 4.0 a minute"
