"""What a batch's parent holds does not grow with the jobs that are over: their records rest on the
disk."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from orchestrator.commands import carry_out
from orchestrator.commands.batch import Outcome
from orchestrator.commands.carry_out import BatchRequest, Shell
from orchestrator.planning.options import Options
from orchestrator.processes.workspace import open_workspace
from orchestrator.running.run_events import RunEvent

WARM, LAST = range(15, 30), range(45, 60)
"""Jobs that are over when memory is looked at, for the first times and for the last."""
JOBS = 60
KB_A_JOB = 8
"""Measured: below 1, and 3 while a slow disk is behind; with all that a job has it would be 17."""


class Watcher:
    """Hands events on."""

    def __init__(self, hear: Callable[[RunEvent], None]) -> None:
        self.notify = hear


@pytest.fixture
def run_batch(config_file, tmp_path):
    """A batch of fake stages in this process, heard; its outcomes."""

    def run(
        jobs: int, hear: Callable[[RunEvent], None], keep: str = "all", **params: object
    ) -> list[Outcome]:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number in range(jobs):
            (folder / f"p{number:03}.txt").write_text(f"{number} 1")
        config = config_file(**params)
        return carry_out.batch(
            BatchRequest(folder, "*.txt", output=tmp_path / "out"),
            Options(config_file=config, keep=keep),
            False,
            open_workspace,
            Shell(lambda prepared, made: nullcontext(Watcher(hear))),
        )

    return run


@pytest.mark.skipif(sys.platform == "win32", reason="counts file descriptors")
def test_memory_and_open_files_do_not_grow_with_the_jobs_that_are_over(run_batch, tmp_path):
    over = 0
    seen: dict[int, tuple[int, int]] = {}

    def hear(event: RunEvent) -> None:
        nonlocal over
        over += event.kind == "done" and event.node == "sink"
        if over in (*WARM, *LAST) and over not in seen:
            gc.collect()
            seen[over] = (tracemalloc.get_traced_memory()[0], psutil.Process().num_fds())

    def least(jobs: range) -> tuple[int, int]:
        """What stays: a picture that is being drawn just then, and its files, do not."""
        memory, files = zip(*(seen[number] for number in jobs), strict=True)
        return min(memory), min(files)

    tracemalloc.start()
    try:
        outcomes = run_batch(JOBS, hear)
    finally:
        tracemalloc.stop()
    assert all(one.good for one in outcomes)
    (first, files), (last, more_files) = least(WARM), least(LAST)
    assert last - first < KB_A_JOB * 1000 * (LAST.start - WARM.start)
    assert more_files - files < 10
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["runs"]) == [one.name for one in outcomes]
    assert {run["nodes"]["sink"]["state"] for run in summary["runs"].values()} == {"done"}
    assert (tmp_path / "out" / "index.html").read_text().count(f"p{JOBS - 1:03}.txt") >= 1


def test_a_job_whose_directory_goes_before_its_turn_fails_alone(run_batch, tmp_path):
    told = []

    def hear(event: RunEvent) -> None:
        if event.kind == "started":
            shutil.rmtree(tmp_path / "out" / "p005", ignore_errors=True)
        if event.kind == "failed":
            told.append((event.job, event.fields["final"]))

    outcomes = run_batch(6, hear, runtime={"cpu_slots": 1})
    assert [one.state for one in outcomes] == ["done"] * 5 + ["failed"]
    assert "p005" in outcomes[-1].error
    assert told == [("p005", True)]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["good"], summary["failed"]) == (5, 1)
    assert not Path(tmp_path / "out" / "p005").exists()
