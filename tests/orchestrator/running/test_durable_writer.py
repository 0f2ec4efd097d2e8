"""What is written behind the next stage's computation: in order, and forgotten when it is over."""

from __future__ import annotations

import threading
import weakref

import pytest

from devtools.patience import eventually
from orchestrator.running.durable_writer import DurableWriter


def test_what_is_done_later_waits_for_the_pictures_before_it():
    happened, go_on = [], threading.Event()
    with DurableWriter(lambda: None) as writer:
        writer.draw(lambda: (go_on.wait(), happened.append("drawn")))
        writer.later(lambda: happened.append("later"))
        go_on.set()
    assert happened == ["drawn", "later"]


def test_what_is_over_is_forgotten():
    """A batch of thousands would keep all of it, and look through all for each picture."""

    class Picture:
        pass

    kept: weakref.WeakSet[Picture] = weakref.WeakSet()

    def draw() -> Picture:
        picture = Picture()
        kept.add(picture)
        return picture

    with DurableWriter(lambda: None) as writer:
        for _ in range(100):
            writer.draw(draw)
            eventually(lambda: writer.behind == 0)
        assert len(kept) == 1, "what has been drawn last"
        writer.later(lambda: None)
        eventually(lambda: not kept)


def test_a_fault_is_raised_at_the_end_however_much_came_behind_it():
    def fail() -> None:
        raise ValueError("drawn wrongly")

    def work() -> None:
        with DurableWriter(lambda: None) as writer:
            writer.draw(fail)
            for _ in range(3):
                writer.later(lambda: None)

    with pytest.raises(ValueError, match="drawn wrongly"):
        work()


def test_what_has_yet_to_be_done_is_counted():
    """By picture, no further ones begin while too much of it waits."""
    go_on = threading.Event()
    with DurableWriter(lambda: None) as writer:
        writer.draw(go_on.wait)
        writer.later(lambda: None)
        assert writer.behind == 2, "what is done later waits for the drawing"
        go_on.set()
        eventually(lambda: writer.behind == 0)
