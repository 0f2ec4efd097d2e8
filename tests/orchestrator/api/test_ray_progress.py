"""What many shards tell becomes one view and one file, as of a batch of one machine."""

from __future__ import annotations

import io
import json

from orchestrator.api.ray_events import Teller
from orchestrator.api.ray_progress import PICTURES, SHARD, Whole
from orchestrator.cli.shards_view import ShardsLeft, ShardsLines, ShardsLive
from orchestrator.running.run_events import RunEvent

NODES = ("begin", "end")
STARTED = {"warm": True, "attempt": 1, "device": "cpu", "rung": 0}
DONE = {"seconds": 1.0, "degraded": "", "rss": 0, "vram": 0}


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def notify(self, event: RunEvent) -> None:
        self.events.append(event)

    def counts(self):
        fields = [event.fields for event in self.events if event.kind == PICTURES]
        return [(one["good"], one["failed"]) for one in fields]


def row(kind, job, node, /, shard="0/2", **fields):
    alike = {"time": 1.0, "shard": shard, "host": "far"}
    return {**alike, "event": kind, "job": job, "node": node, "fields": fields}


def through(job, **more):
    return [row("done", job, node, **DONE, **more) for node in NODES]


def test_pictures_are_counted_over_all_shards_and_earlier_starts(tmp_path):
    seen = Seen()
    whole = Whole(tmp_path, NODES, ["a", "b", "c", "d"], ["d"], seen)
    whole.hear([row("done", "a", "begin", **DONE)])
    assert seen.counts() == [(1, 0)]
    whole.hear([row("done", "a", "end", **DONE)])
    whole.hear([row("failed", "b", "begin", final=True), row("failed", "c", "end", final=False)])
    assert seen.counts() == [(1, 0), (2, 0), (2, 1)]
    assert whole.left == 1


def test_a_shard_that_begins_anew_is_not_counted_twice_and_may_mend_what_failed(tmp_path):
    seen = Seen()
    whole = Whole(tmp_path, NODES, ["a", "b"], [], seen)
    whole.hear([*through("a"), row("failed", "b", "begin", final=True)])
    whole.hear([*through("a"), *through("b")])
    shown = [(event.job, event.node) for event in seen.events if event.kind == "done"]
    assert sorted(shown) == [("a", "begin"), ("a", "end"), ("b", "begin"), ("b", "end")]
    assert seen.counts()[-1] == (2, 0)


def test_what_a_shard_ended_with_is_right_whatever_was_heard(tmp_path):
    seen = Seen()
    whole = Whole(tmp_path, NODES, ["a", "b"], [], seen)
    rows = [{"name": "a", "state": "done"}, {"name": "b", "state": "failed"}]
    whole.shard_ended("0/1", "far", rows)
    assert seen.counts() == [(1, 1)]
    [said] = [event for event in seen.events if event.kind == SHARD]
    assert said.fields["text"] == "shard 0/1 on far: 1 of 2 good"


def test_the_file_has_all_but_progress_with_shard_host_and_job(tmp_path):
    whole = Whole(tmp_path, NODES, ["a"], [], Seen())
    whole.hear([row("progress", "a", "begin", step=1, total=2, note=""), *through("a")])
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(one["event"], one["job"], one["node"]) for one in lines] == [
        ("done", "a", "begin"),
        ("done", "a", "end"),
    ]
    assert {(one["shard"], one["host"], one["seconds"]) for one in lines} == {("0/2", "far", 1.0)}


def test_a_directory_that_cannot_be_written_to_ends_nothing(tmp_path):
    (tmp_path / "events.jsonl").mkdir()
    seen = Seen()
    Whole(tmp_path, NODES, ["a"], [], seen).hear(through("a"))
    assert seen.counts() == [(1, 0)]


def test_lines_say_how_many_pictures_are_through(tmp_path):
    stream = io.StringIO()
    lines = ShardsLines(stream, 4, False, ShardsLeft(NODES, 4, {}))
    whole = Whole(tmp_path, NODES, ["a", "b", "c", "d"], [], lines)
    whole.hear([row("started", "a", "begin", **STARTED), *through("a")])
    whole.hear(
        [row("failed", "b", "begin", final=True, kind="bad_input", message="no", move="end")]
    )
    whole.say("shard 0/2 on far: 1 of 2 good")
    text = stream.getvalue()
    assert "a: end: done in 1.00 s" in text
    assert "1 of 4 pictures" in text
    assert "2 of 4 pictures, 1 failed" in text
    assert "shard 0/2 on far: 1 of 2 good" in text


def test_a_terminal_shows_all_shards_in_one_table(tmp_path):
    live = ShardsLive(NODES, 4, ShardsLeft(NODES, 4, {}))
    whole = Whole(tmp_path, NODES, ["a", "b", "c", "d"], [], live)
    whole.hear([row("started", "a", "begin", **STARTED), *through("a")])
    whole.hear([row("started", "b", "begin", "1/2", **STARTED)])
    table = live.__rich__()
    assert str(table.caption).startswith("1 of 4 pictures")
    states = list(table.columns[1].cells)
    assert states == ["running 1/4", "done 1/4"]


def test_what_is_left_counts_what_shards_take_besides_their_nodes():
    now = [0.0]
    left = ShardsLeft(["only"], 4, {}, lambda: now[0])
    assert left.of_all() is None
    for index in range(2):
        left.hear(RunEvent("started", f"j{index}", "only", {"rung": 0}))
        now[0] += 10.0  # of which the node has 1
        left.hear(RunEvent("done", f"j{index}", "only", {"seconds": 1.0}))
    assert left.of_all() == 20.0


class Ear:
    """Stands for the actor."""

    def __init__(self) -> None:
        self.heard: list[list[dict]] = []
        self.hear = self

    def remote(self, rows):
        self.heard.append(rows)


def test_a_task_tells_all_at_once_and_of_progress_the_last_word():
    ear = Ear()
    teller = Teller(ear, "0/2")
    teller.renamed = ("/tmp/private/out", "/home/me/many")
    for step in range(50):
        teller.notify(RunEvent("progress", "a", "begin", {"step": step}))
    log = "/tmp/private/out/shard/x.log"
    teller.notify(RunEvent("failed", "b", "begin", {"kind": "disk_full", "log": log}))
    teller.send()
    [rows] = ear.heard
    assert [(one["event"], one["job"]) for one in rows] == [("failed", "b"), ("progress", "a")]
    assert rows[1]["fields"]["step"] == 49
    assert rows[0]["fields"]["log"] == "/home/me/many/shard/x.log"
    assert teller.full == {"b"}
    teller.notify(RunEvent("done", "a", "begin", {}))
    teller.send()
    assert len(ear.heard) == 1, "not more often than twice a second"
