"""Processes that stand still: none holds a run up for good, and Ctrl-C twice ends it now."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from devtools.fakes.running import (
    alive,
    attempts,
    below,
    finish,
    guard_of,
    interrupt_twice,
    seen,
    start,
    template_of,
    wait_for,
)
from devtools.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no template, no guard elsewhere")


def stop(process: psutil.Process) -> None:
    """Stop a process, unless it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        wait_for(lambda: process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))


def interrupted_for_good(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; else one more Ctrl-C, and a while to heed it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    return process.poll() is not None


def test_a_template_that_is_stopped_while_a_stage_runs_does_not_matter(
    picture, config_file, tmp_path
):
    out, flag = tmp_path / "out", tmp_path / "flag"
    config = config_file(seconds=1.0, flag=str(flag))
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: seen(out, "started", "trouble"))
    wait_for(lambda: (out / "events.jsonl").read_text().count('"imported"') == 3)
    stop(template_of(process))
    stderr = finish(process)
    assert process.returncode == 0, stderr
    assert len(attempts(out, "trouble")) == 1


@pytest.mark.slow
def test_a_template_that_is_stopped_before_a_fork_costs_the_warm_start(
    picture, config_file, tmp_path
):
    out, flag = tmp_path / "out", tmp_path / "flag"
    config = config_file(mode="segfault", flag=str(flag), source={"seconds": 3.0})
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: seen(out, "started", "source"))
    wait_for(lambda: (out / "events.jsonl").read_text().count('"imported"') == 3)
    stop(template_of(process))
    stderr = finish(process)
    assert process.returncode == 0, stderr
    first, second = attempts(out, "trouble")
    assert (first["outcome"], first["warm"]) == ("crashed", True)
    assert (second["outcome"], second["warm"]) == ("done", False)
    assert "template" in second["cold_reason"]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert any("template" in event.get("cold_reason", "") for event in events)


def test_a_killed_template_costs_no_attempt(picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(seconds=1.0)
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: seen(out, "started", "trouble"))
    os.kill(template_of(process).pid, signal.SIGKILL)
    stderr = finish(process)
    assert process.returncode == 0, stderr
    assert [row["outcome"] for row in attempts(out, "trouble")] == ["done"]


def stages(process, out) -> list[psutil.Process]:
    template, guard = template_of(process).pid, guard_of(process).pid
    return [child for child in below(process.pid) if child.pid not in (template, guard)]


STANDING_STILL = {
    "nothing": lambda process, out: None,
    "template": lambda process, out: stop(template_of(process)),
    "guard": lambda process, out: stop(guard_of(process)),
    "stages": lambda process, out: [stop(stage) for stage in stages(process, out)],
    "all": lambda process, out: [stop(child) for child in below(process.pid)],
}


@pytest.mark.parametrize("still", list(STANDING_STILL))
def test_ctrl_c_twice_ends_everything_now_whatever_stands_still(
    still, picture, config_file, tmp_path
):
    out, folder = tmp_path / "out", tmp_path / "tmp"
    folder.mkdir()
    config = config_file(mode="ignore_sigterm", runtime={"stop_grace": 4 * PATIENCE})
    process = start(
        tmp_path, "run", picture, "--config", config, "--output", out, TMPDIR=str(folder)
    )
    wait_for(lambda: seen(out, "started", "trouble"))
    family = [child.pid for child in below(process.pid)]
    STANDING_STILL[still](process, out)
    interrupt_twice(process)
    finish(process)
    assert process.returncode == 130
    wait_for(lambda: alive(family) == [])
    wait_for(lambda: list(folder.iterdir()) == [])


def test_ctrl_c_twice_ends_a_parent_that_is_stuck_in_a_write(picture, config_file, tmp_path):
    """Nobody reads what it prints, and the pipe is full."""
    out = tmp_path / "out"
    config = config_file(mode="sleep")
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: seen(out, "started", "trouble"))
    family = [child.pid for child in below(process.pid)]
    os.set_blocking(process.stderr.fileno(), False)
    with open(f"/proc/{process.pid}/fd/2", "wb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), False)
        while pipe.write(b"\0" * 65536):
            pass
    os.set_blocking(process.stderr.fileno(), True)
    wait_for(lambda: interrupted_for_good(process))  # what it answers cannot be read
    finish(process)
    assert process.returncode == 130
    wait_for(lambda: alive(family) == [])


@pytest.mark.parametrize(
    "option",
    [
        pytest.param((), id="warm"),
        pytest.param(("--no-warm",), id="cold", marks=pytest.mark.slow),
    ],
)
def test_a_freeze_of_the_whole_tree_costs_no_attempt(option, picture, config_file, tmp_path):
    """As when a laptop sleeps: longer than the heartbeat's and the node's time limit."""
    out = tmp_path / "out"
    limits = {"heartbeat_interval": 0.2, "heartbeat_timeout": 10.0}
    config = config_file(seconds=2.0, timeout=12.0, runtime=limits)
    process = start(tmp_path, "run", picture, "--config", config, "--output", out, *option)
    wait_for(lambda: seen(out, "started", "trouble"))
    tree = [psutil.Process(process.pid), *below(process.pid)]
    for member in tree:
        stop(member)
    time.sleep(14.0)
    for member in reversed(tree):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.resume()
    stderr = finish(process)
    assert process.returncode == 0, stderr
    assert [row["outcome"] for row in attempts(out, "trouble")] == ["done"]


def test_an_import_in_the_template_learns_how_its_programs_ended(kiss3d, picture, tmp_path):
    nodes = {"source": {"stage": "fake.source"}, "trouble": {"stage": "fake.trouble"}}
    profile = {"profile": "none", "nodes": {**nodes, "sink": {"stage": "fake.shelling"}}}
    config = tmp_path / "fake.yaml"
    config.write_text(yaml.safe_dump(profile))
    folder = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config, "--output", folder)
    assert done.returncode == 0, done.stderr
    assert [row["warm"] for row in attempts(folder, "sink")] == [True]
