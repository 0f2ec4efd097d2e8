"""`run` with fake stages: the whole way from a file to artifacts, through real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devtools.fakes.running import finish, start, wait_for
from devtools.fakes.tools import leftovers


@pytest.mark.parametrize("option", [(), ("--no-warm",)], ids=["warm", "cold"])
def test_a_run_goes_through_all_nodes_and_records_them(
    kiss3d, picture, config_file, tmp_path, option
):
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config_file(), "--output", out, *option, "--json")
    assert done.returncode == 0, done.stderr
    assert (out / "sink" / "total.txt").read_text() == "9 seed 42"
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["state"] == "done"
    for node in ("source", "trouble", "sink"):
        record = manifest["nodes"][node]
        assert record["state"] == "done"
        assert record["attempts"][0]["warm"] is (option == ())
        assert record["attempts"][0]["vram"]["verdict"] == "no gpu used"
        assert all(f["digest"] for files in record["artifacts"].values() for f in files)
    pids = {manifest["nodes"][node]["attempts"][0]["pid"] for node in manifest["nodes"]}
    assert len(pids) == 3, "every node must have had a process of its own"
    assert leftovers(out) == []
    assert json.loads(done.stdout)["state"] == "done"


def test_a_finished_run_is_not_replaced_in_silence(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    asked = ("run", picture, "--config", config_file(), "--output", out)
    assert "replaced" not in kiss3d(*asked).stderr
    assert "replaced" not in kiss3d(*asked).stderr
    told = kiss3d(*asked, "--seed", "7").stderr
    assert f"{out} holds a finished run with another seed: its result will be replaced" in told
    assert (out / "sink" / "total.txt").read_text() == "9 seed 7"


def test_processes_start_at_once_but_load_only_when_their_inputs_come_next(
    picture, config_file, tmp_path
):
    out, imported = tmp_path / "out", tmp_path / "imported"
    process = start(
        tmp_path, "run", picture, "--config", config_file(until=str(imported)), "--output", out
    )
    wait_for(lambda: ("process", "sink", "imported") in order(out))
    imported.touch()  # trouble has waited for it
    stderr = finish(process)
    assert process.returncode == 0, stderr
    told = order(out)
    assert told.index(("started", "trouble", "")) < told.index(("process", "sink", "idle"))


def order(out: Path) -> list[tuple[str, str, str]]:
    """What a run has told so far: events, their nodes, the states of processes."""
    file = out / "events.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return [(e["event"], e.get("node", ""), e.get("state", "")) for e in events]


def test_a_process_started_ahead_is_let_go_when_its_job_fails(
    kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config_file(mode="raise"), "--output", out)
    assert done.returncode == 1
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [e["node"] for e in events if e["event"] == "gone"].count("sink") == 1
    assert not any(e["event"] == "started" and e["node"] == "sink" for e in events)


def test_a_failed_run_does_not_wait_for_an_import_of_a_process_that_nobody_needs(
    kiss3d, picture, config_file, tmp_path
):
    """The template is in the middle of a slow import for the last node when the first one fails."""
    out = tmp_path / "out"
    config = config_file(mode="raise")
    config.write_text(config.read_text().replace("fake.sink", "fake.slow_sink"))
    done = kiss3d("run", picture, "--config", config, "--output", out)
    assert done.returncode == 1
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    (gone,) = [e for e in events if e["event"] == "gone" and e["node"] == "sink"]
    assert gone["pid"] == 0, "it was never forked"
