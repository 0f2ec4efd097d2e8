"""What is on the screen while a run goes."""

from __future__ import annotations

import io
import time

import click
import pytest
from rich.console import Console

from orchestrator.cli import commands, live_view
from orchestrator.cli.live_view import Lines, Live
from orchestrator.errors import InterruptedRunError
from orchestrator.running.pictures_through import PicturesThrough
from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft

NODES = ("preprocess", "multiview", "reconstruct")
STEP = {"step": 12, "total": 25, "note": "refine: 15453 vertices of [50000] at most", "vram": -1}


def shown(view: Live, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(view)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_live_table_has_one_line_a_node_at_any_width(width):
    view = Live(NODES, 1)
    view.notify(RunEvent("started", "robot", "reconstruct", {"attempt": 1}))
    view.notify(RunEvent("progress", "robot", "reconstruct", {**STEP, "rss": 864 << 20}))
    lines = shown(view, width)
    assert [line.split()[0] for line in lines] == ["node", *NODES]
    assert max(map(len, lines)) <= width
    assert "12/25" in lines[-1]
    assert ("refin" in lines[-1]) == (width > 60), "the note alone gives way"
    assert ("[50000] at most" in lines[-1]) == (width == 200)


def test_what_is_left_stands_beside_the_step_and_below_the_table():
    left = TimeLeft(NODES, 1, {name: {0: ("cpu", 20.0)} for name in NODES})
    view = Live(NODES, 1, left)
    view.notify(RunEvent("reused", "robot", "preprocess", {"source": "this run"}))
    view.notify(RunEvent("started", "robot", "multiview", {"attempt": 1, "rung": 0}))
    lines = shown(view, 100)
    assert lines[0].split()[:4] == ["node", "state", "step", "left"]
    assert "20 s" in lines[2]
    assert lines[-1].strip() == "40 s left"


def of_two_pictures() -> tuple[TimeLeft, PicturesThrough]:
    left = TimeLeft(NODES, 2, {name: {0: ("cpu", 20.0)} for name in NODES})
    return left, PicturesThrough(NODES, 2, left)


def test_in_a_batch_the_table_tells_one_pictures_step_from_what_is_left_of_all():
    view = Live(NODES, 2, *of_two_pictures())
    view.notify(RunEvent("started", "robot", "multiview", {"attempt": 1, "rung": 0}))
    lines = shown(view, 120)
    assert "one's step  left of all" in lines[0]
    assert lines[-1].strip() == "0 of 2 pictures, 2 min left"


def test_in_a_batch_a_line_says_how_far_it_is_whenever_a_picture_is_over(monkeypatch):
    stream = io.StringIO()
    left, pictures = of_two_pictures()
    view = Lines(stream, 2, left=left, pictures=pictures)
    start = {"warm": True, "device": "cpu", "attempt": 1, "rung": 0}
    view.notify(RunEvent("started", "robot", "multiview", start))
    seconds = time.monotonic()
    monkeypatch.setattr(live_view.time, "monotonic", lambda: seconds + 6.0)
    view.notify(RunEvent("progress", "robot", "multiview", {**STEP, "rss": 1}))
    told = stream.getvalue()
    assert "robot: multiview: step 12/25 refine" in told
    assert "left" not in told, "of the batch, which a step of one picture says nothing of"
    for name in NODES:
        view.notify(RunEvent("reused", "robot", name, {"source": "this run"}))
    assert "batch: 1 of 2 pictures, 1 min left" in stream.getvalue().splitlines()[-1]


def test_attempts_are_told_once_there_is_a_second():
    view = Live(NODES, 1)
    view.notify(RunEvent("started", "robot", "multiview", {"attempt": 1}))
    assert "attempt" not in shown(view, 80)[0]
    view.notify(RunEvent("started", "robot", "multiview", {"attempt": 2}))
    assert "attempt" in shown(view, 80)[0]
    assert "  2  " in shown(view, 80)[2]


def test_a_stop_is_answered_at_once():
    stream = io.StringIO()
    Lines(stream, 1).notify(RunEvent("stopping", "", "", {"signal": "SIGINT"}))
    assert "stopping; Ctrl-C again stops at once" in stream.getvalue()


def test_one_more_ctrl_c_at_the_end_does_not_swallow_the_way_on(monkeypatch, capsys):
    @click.command()
    def stopped():
        try:
            raise InterruptedRunError("stopped before the end", "kiss3d-orchestrate resume here")
        finally:
            raise KeyboardInterrupt

    monkeypatch.setattr(commands, "cli", stopped)
    with pytest.raises(SystemExit) as ended:
        commands.run_command([])
    assert ended.value.code == 130
    assert "  -> kiss3d-orchestrate resume here" in capsys.readouterr().err
