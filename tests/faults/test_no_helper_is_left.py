"""What a stage has started ends with it, and with the run, whatever it does to get away."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from devtools.fakes.misbehaviour import HELPERS
from devtools.fakes.running import alive, attempts, below, finish, guard_of, seen, start, wait_for
from orchestrator.processes.guard import GuardLink
from orchestrator.system.private_folders import sweep_private_folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no guard elsewhere")
WAYS = pytest.mark.parametrize("option", [(), ("--no-warm",)], ids=["warm", "cold"])


@pytest.fixture
def pids(tmp_path):
    """A file of pids, and a look at those that are in it."""
    file = tmp_path / "pids"

    def read() -> list[int]:
        return [int(word) for word in file.read_text().split()] if file.is_file() else []

    read.file = str(file)
    return read


@WAYS
def test_helpers_end_with_a_run_that_ends_well(
    option, kiss3d, picture, config_file, tmp_path, pids
):
    config = config_file(helpers=pids.file)
    done = kiss3d("run", picture, "--config", config, "--output", tmp_path / "out", *option)
    assert done.returncode == 0, done.stderr
    assert len(pids()) == HELPERS
    assert alive(pids()) == []


def test_helpers_end_with_their_stage_while_the_run_goes_on(picture, config_file, tmp_path, pids):
    out = tmp_path / "out"
    config = config_file(helpers=pids.file, mode="killed", flag=str(tmp_path / "f"), seconds=3600)
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: len(pids()) == 2 * HELPERS)  # the second try has its own
    wait_for(lambda: alive(pids()[:HELPERS]) == [])
    assert len(alive(pids()[HELPERS:])) == HELPERS
    process.send_signal(signal.SIGINT)
    finish(process)
    assert alive(pids()) == []


@WAYS
def test_helpers_end_with_a_killed_parent(option, picture, config_file, tmp_path, pids):
    out = tmp_path / "out"
    config = config_file(helpers=pids.file, mode="sleep")
    process = start(tmp_path, "run", picture, "--config", config, "--output", out, *option)
    wait_for(lambda: len(pids()) == HELPERS)
    family = [child.pid for child in below(process.pid)]
    process.kill()
    finish(process)
    wait_for(lambda: alive([*family, *pids()]) == [])


def test_a_killed_parent_leaves_no_private_folder(picture, config_file, tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    out, config = tmp_path / "out", config_file(mode="sleep")
    process = start(
        tmp_path, "run", picture, "--config", config, "--output", out, TMPDIR=str(folder)
    )
    wait_for(lambda: seen(out, "started", "trouble"))
    assert list(folder.iterdir())
    process.kill()
    finish(process)
    wait_for(lambda: list(folder.iterdir()) == [])


def test_a_parent_that_is_killed_in_its_last_moments_leaves_no_private_folder(tmp_path):
    """It has told the guard to end, and has yet to write the record."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "socket").touch()
    with open(os.devnull, "ab") as null:
        guard = GuardLink(folder, warm=False, output=null)
        try:
            guard.begin_close()
            wait_for(lambda: not folder.exists())
        finally:
            guard.close()


def test_a_guard_that_is_replaced_leaves_the_private_folder(tmp_path):
    with open(os.devnull, "ab") as null:
        guard = GuardLink(tmp_path, warm=False, output=null)
        try:
            guard.begin_close(keep_folder=True)
            wait_for(lambda: alive([guard.pid]) == [])
            guard.restart()
            assert tmp_path.is_dir()
        finally:
            guard.close()


def test_a_killed_guard_costs_an_attempt_and_leaves_nothing(picture, config_file, tmp_path, pids):
    out = tmp_path / "out"
    config = config_file(helpers=pids.file, mode="sleep", flag=str(tmp_path / "flag"))
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for((tmp_path / "flag").exists)
    family = [child.pid for child in below(process.pid)]
    os.kill(guard_of(process).pid, signal.SIGKILL)
    stderr = finish(process)
    assert process.returncode == 0, stderr
    first, second = attempts(out, "trouble")
    assert first["outcome"] == "crashed"
    assert (second["outcome"], second["warm"]) == ("done", False)
    assert "guard" in second["cold_reason"]
    wait_for(lambda: alive([*family, *pids()]) == [])


@pytest.mark.slow
def test_no_kill_of_the_parent_at_any_moment_leaves_a_helper(picture, config_file, tmp_path, pids):
    """The short version of `bench/orchestration/helpers.py`."""
    config = config_file(helpers=pids.file, seconds=0.3)
    for turn in range(8):
        out = tmp_path / f"out{turn}"
        process = start(tmp_path, "run", picture, "--config", config, "--output", out)
        begun = len(pids())
        wanted = begun + 1 + turn % HELPERS
        wait_for(lambda wanted=wanted: len(pids()) >= wanted)
        process.kill()
        finish(process)
        wait_for(lambda: alive(pids()) == [])
    sweep_private_folders()


def test_helpers_of_a_stage_by_itself_end_with_a_killed_parent(
    kiss3d, picture, config_file, tmp_path, pids
):
    out = tmp_path / "out"
    assert kiss3d("run", picture, "--config", config_file(), "--output", out).returncode == 0
    other = tmp_path / "other"
    options = ("--set", "mode=sleep", "--set", f"helpers={pids.file}")
    process = start(tmp_path, "stage", "trouble", "--run", out, "--output", other, *options)
    wait_for(lambda: len(pids()) == HELPERS)
    family = [child.pid for child in below(process.pid)]
    process.kill()
    finish(process)
    wait_for(lambda: alive([*family, *pids()]) == [])
