"""A stage that attacks its parent over the connection it has: it loses its attempt, no more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from devtools.fakes.hostile import ATTACKS
from devtools.fakes.tools import cli_environment, leftovers
from devtools.patience import PATIENCE

MIB = 1 << 20
LIMIT = 64 * MIB

ENDED = {
    "hello again": "sent a hello that is not expected while running",
    "ready again": "sent a ready that is not expected while running",
    "another job": "sent a done of another job, 'another' while running",
    "an unknown kind": "sent a failed of an unknown kind, 'odd' while running",
    "not a message": "sent something that is no message: not a msgpack message",
    "an empty message": "sent something that is no message: not a msgpack message",
    "a bomb": "sent something that is no message: not a known message",
    "a huge message": "message of 4294967295 bytes, where 131072 are the most",
    "huge files": "files of 4294967296 bytes, where 1048576 are the most",
    "half a message": "no heartbeat for",
    "hanging up": "no heartbeat for",
    "two last words": "once",
}
"""Attacks that cost the attempt, and what is told of them."""
HARMLESS = ("many messages", "many connections", "a thread that goes on", "ok")
"""What the parent lets a stage do, as it costs nothing."""

PROGRAM = """
import sys
from pathlib import Path
from orchestrator.cli import main
try:
    main(sys.argv[1:])
finally:
    print(Path("/proc/self/status").read_text())
"""


def run(folder: Path, attempts: list[dict], **runtime: object) -> tuple[dict, int]:
    """The record of a run whose stage attacks, rung after rung, and the parent's peak memory."""
    profile = {
        "profile": "none",
        "nodes": {
            "source": {"stage": "fake.source"},
            "hostile": {"stage": "fake.hostile", "attempts": attempts, "timeout": 60.0},
            "sink": {"stage": "fake.sink"},
        },
        "runtime": {"heartbeat_interval": 0.2, "stop_grace": 0.5, **runtime},
    }
    (folder / "hostile.yaml").write_text(yaml.safe_dump(profile))
    (folder / "in.txt").write_text("1 2 3")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "in.txt", "--config=hostile.yaml", "--output=out"],
        cwd=folder,
        env=cli_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert leftovers(folder / "out") == []
    (peak,) = re.findall(r"^VmHWM:\s*(\d+) kB", done.stdout, re.MULTILINE)
    print(f"the parent's peak: {int(peak) / 1024:.1f} MiB")
    return json.loads((folder / "out" / "run.json").read_text()), 1024 * int(peak)


def test_every_attack_is_tried_here():
    assert set(ENDED) | set(HARMLESS) == {*ATTACKS, "ok", "a thread that goes on"}


@pytest.fixture(scope="module")
def usual_peak(tmp_path_factory) -> int:
    """Bytes that the parent holds at most where nobody attacks."""
    return run(tmp_path_factory.mktemp("usual"), [{}])[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_stage_that_attacks_loses_its_attempt_and_the_parent_holds_no_more(usual_peak, tmp_path):
    attacks = [*ENDED, "ok"]
    # Silence is how two of them are found out: the others are ended at once.
    record, peak = run(tmp_path, [{"params": {"attack": a}} for a in attacks], heartbeat_timeout=10)
    rows = {row["params"]["attack"]: row for row in record["nodes"]["hostile"]["attempts"]}
    assert record["nodes"]["sink"]["state"] == "done"
    for attack, says in ENDED.items():
        expected = "crashed" if "heartbeat" in says else "internal"
        assert rows[attack]["outcome"] == expected, rows[attack]
        assert says in rows[attack]["message"]
    assert peak - usual_peak < LIMIT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("attack", HARMLESS)
def test_what_a_stage_may_do_costs_the_parent_no_memory(attack, usual_peak, tmp_path):
    record, peak = run(tmp_path, [{"params": {"attack": attack}}])
    (row,) = record["nodes"]["hostile"]["attempts"]
    assert row["outcome"] == "done", row
    assert peak - usual_peak < LIMIT
