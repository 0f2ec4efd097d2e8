"""What a run still takes: the table's figures, what was measured, and the steps that are done."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest

from orchestrator.cli.live_view import Lines
from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft, in_words

TABLE = {"views": {0: ("cpu", 10.0)}, "paint": {0: ("cuda", 40.0)}, "mesh": {0: ("cpu", 30.0)}}


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Story:
    """A run that is told event by event, on a clock of its own."""

    def __init__(self, jobs: int = 1, expected: Any = TABLE) -> None:
        self.clock = Clock()
        self.left = TimeLeft(TABLE, jobs, expected, self.clock)

    def hear(self, what: str, node: str, job: str = "robot", /, **fields: Any) -> None:
        self.left.hear(RunEvent(what, job, node, fields))

    def compute(self, node: str, seconds: float, job: str = "robot") -> None:
        self.hear("started", node, job, rung=0)
        self.clock.time += seconds
        self.hear("done", node, job, seconds=seconds)


def test_before_anything_is_known_the_table_says_it():
    assert Story().left.of_all() == pytest.approx(80.0)


def test_without_a_figure_for_a_node_nothing_is_said_until_it_has_been_measured():
    story = Story(expected={"views": TABLE["views"]})
    assert story.left.of_all() is None
    assert story.left.of_node("views") == pytest.approx(10.0)
    assert in_words(story.left.of_all()) == "-"


def test_a_slow_machine_is_noticed_on_the_kind_of_device_that_was_slow():
    story = Story()
    story.compute("views", 30.0)
    assert story.left.of_node("paint") == pytest.approx(40.0)
    assert 60.0 < story.left.of_node("mesh") < 90.0


def test_what_is_done_or_cached_takes_no_more_time():
    story = Story()
    story.hear("reused", "views", source="this run")
    story.compute("paint", 40.0)
    assert story.left.of_node("views") == story.left.of_node("paint") == 0.0


def test_steps_say_more_than_the_table_once_there_are_some():
    story = Story()
    story.hear("started", "paint", rung=0)
    assert story.left.of_node("paint") == pytest.approx(40.0)
    story.clock.time += 60.0
    story.hear("progress", "paint", step=5, total=20)
    assert story.left.of_node("paint") == pytest.approx(180.0), "12 seconds a step"
    story.clock.time += 5.0
    assert story.left.of_node("paint") == pytest.approx(175.0), "it goes down between steps too"


def test_a_rung_that_nobody_measured_is_known_by_its_steps_alone():
    story = Story()
    story.hear("started", "paint", rung=2)
    assert story.left.of_node("paint") is None
    story.clock.time += 10.0
    story.hear("progress", "paint", step=1, total=4)
    assert story.left.of_node("paint") == pytest.approx(30.0)


def test_what_takes_longer_than_it_should_is_never_below_zero():
    story = Story()
    story.hear("started", "views", rung=0)
    story.clock.time += 1000.0
    assert story.left.of_node("views") == 0.0


def test_a_new_estimate_is_approached_without_a_jump():
    story = Story()
    story.hear("started", "paint", rung=0)
    shown = []
    for step in range(1, 41):
        story.clock.time += 0.5
        if step % 8 == 0:  # twice as slow as in the table, to everybody's surprise
            story.hear("progress", "paint", step=step // 8, total=20)
        shown.append(story.left.of_all())
    jumps = [after - before for before, after in itertools.pairwise(shown)]
    assert max(jumps) < 6.0, "of 40 seconds that it takes longer"
    assert min(jumps) > -6.0
    assert shown[-1] == pytest.approx(100.0, abs=10.0)


def test_a_batch_goes_by_its_own_pictures_and_by_how_many_are_worked_on_at_a_time():
    story = Story(jobs=10)
    for job in ("a", "b"):
        story.hear("started", "views", job, rung=0)
        story.hear("started", "mesh", job, rung=0)
    story.clock.time += 20.0
    for job in ("a", "b"):
        for node in ("views", "mesh"):
            story.hear("done", node, job, seconds=20.0)
        story.hear("reused", "paint", job, source="")
    assert story.left.of_node("views") == pytest.approx(8 * 20.0)
    alone = sum(story.left.of_node(name) for name in TABLE)
    assert story.left.of_all() == pytest.approx(alone / 4), "80 seconds of work in 20"


def test_a_picture_that_failed_is_not_waited_for():
    story = Story(jobs=2)
    story.hear("started", "views", "bad", rung=0)
    story.hear("failed", "views", "bad", kind="bad_input", final=False)
    assert story.left.of_node("mesh") == pytest.approx(60.0)
    story.hear("failed", "views", "bad", kind="bad_input", final=True)
    assert story.left.of_node("mesh") == pytest.approx(30.0)


def test_what_is_computed_beside_each_other_counts_before_any_of_it_is_done():
    """Four pictures of 80 s each, two of them in their first node for 5 of its 10 s."""
    story = Story(jobs=4)
    for job in ("a", "b"):
        story.hear("started", "views", job, rung=0)
    story.clock.time += 5.0
    alone = 4 * 80.0 - 2 * 5.0
    assert story.left.of_all() == pytest.approx(alone / 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.0, "0 s"), (7.2, "8 s"), (31.0, "35 s"), (61.0, "2 min"), (7300.0, "2.0 h")],
)
def test_long_times_are_said_roughly(seconds, words):
    assert in_words(seconds) == words


def test_a_plain_line_says_it_beside_the_step(monkeypatch):
    story, stream = Story(), io.StringIO()
    lines = Lines(stream, 1, left=story.left)
    lines.notify(
        RunEvent(
            "started", "robot", "paint", {"rung": 0, "device": "cuda", "warm": True, "attempt": 1}
        )
    )
    monkeypatch.setattr("orchestrator.cli.live_view._PROGRESS_SECONDS", 0.0)
    story.clock.time += 10.0
    lines.notify(RunEvent("progress", "robot", "paint", {"step": 5, "total": 20, "note": "hm"}))
    assert "70 s" not in stream.getvalue()
    assert "paint: step 5/20 (2 min left) hm" in stream.getvalue()
