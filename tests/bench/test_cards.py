"""The bench of several cards: what it reads from the records of a batch, and its tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.orchestration import cards_rows
from bench.orchestration.cards_rows import Measured, Node, Work
from orchestrator.record.manifest import AttemptRow, InputRecord, Manifest, NodeRecord


def attempt(card: str, pid: int, started: float, outcome: str = "done") -> AttemptRow:
    """10 s long, of which it computes 8."""
    return AttemptRow(
        rung=0,
        device="cuda" if card else "cpu",
        card=card,
        pid=pid,
        started=started,
        seconds=10.0,
        outcome=outcome,
        timings={"compute": 8.0},
    )


def write_run(run: Path, attempts: dict[str, list[AttemptRow]]) -> None:
    run.mkdir(parents=True)
    nodes = {name: NodeRecord(state="done", attempts=rows) for name, rows in attempts.items()}
    given = InputRecord(source="a.png", file="input.png", size=1, digest="0")
    manifest = Manifest(state="done", given={"input_image": given}, nodes=nodes)
    (run / "run.json").write_text(manifest.model_dump_json())
    lines = []
    for name, rows in attempts.items():
        for row in rows:
            ended = "done" if row.outcome == "done" else "failed"
            times = {"started": row.started, ended: row.started + row.seconds}
            lines += [
                json.dumps({"event": kind, "node": name, "time": time})
                for kind, time in times.items()
            ]
    (run / "events.jsonl").write_text("\n".join([*lines, '{"event": "started", "no']))


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Two pictures: drawn on two cards at once, and one of them tried in vain before."""
    write_run(
        tmp_path / "one",
        {"caption": [attempt("", 9, 0.0)], "flux": [attempt("0", 1, 100.0)]},
    )
    write_run(
        tmp_path / "two",
        {"flux": [attempt("1", 2, 80.0, "crashed"), attempt("1", 3, 110.0)]},
    )
    return tmp_path


def test_nodes_have_their_times_and_processes(batch: Path) -> None:
    nodes, work = cards_rows.nodes_and_work(batch)
    assert sorted(nodes["flux"].began) == [80.0, 100.0, 110.0]
    assert nodes["flux"].processes == 3
    assert nodes["flux"].a_minute == pytest.approx(60 * 2 / 40)
    assert nodes["caption"].a_minute == 0.0, "one picture tells no rate"
    assert sorted((job.card, job.pid) for job in work) == [("0", 1), ("1", 3)]
    assert cards_rows.through(batch) == {"caption": 1, "flux": 2}


def test_the_time_of_each_card_is_told_to_the_last_second() -> None:
    work = [
        Work("0", "flux", 1, started=0.0, seconds=40.0, compute=36.0),
        Work("0", "flux", 1, started=45.0, seconds=35.0, compute=34.0),
        Work("0", "isomer", 2, started=90.0, seconds=10.0, compute=10.0),
        Work("1", "flux", 3, started=20.0, seconds=60.0, compute=50.0),
    ]
    first, second = cards_rows.spent(work).values()
    assert first.computed == pytest.approx(0.8)
    assert first.around == pytest.approx(0.05)
    assert (first.waiting, first.changing) == (pytest.approx(0.05), pytest.approx(0.1))
    assert first.outside == pytest.approx(0.0)
    assert (second.computed, second.outside) == (pytest.approx(0.5), pytest.approx(0.4))


def test_rows_are_kept_and_shown_by_a_later_command(tmp_path: Path) -> None:
    file = tmp_path / "cards.jsonl"
    for cards, seconds in (("2 cards", 50.0), ("1 card", 90.0)):
        node = Node([0.0, 1.0], [seconds / 2, seconds], 1)
        work = [Work("0", "flux", 1, 0.0, seconds, seconds * 0.9)]
        cards_rows.save(Measured(cards, 2, seconds, 2, {"flux": node}, work, 0.9), file)
    assert [row.cards for row in cards_rows.load(file)] == ["2 cards", "1 card"]
    command = [sys.executable, "-m", "bench.orchestration.cards", "--show", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert rows["flux"][-1] == rows["whole"][-1] == "1.80", "pictures a minute, two against one"
    assert shown.count("90.0%") == 4, "busy by the summary, and computed by card"
