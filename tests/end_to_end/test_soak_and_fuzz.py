"""Short versions of the soaks and the fuzz in `bench/robustness`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.fakes.tools import ROOT, cli_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they fork, and read /proc")


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., str]:
    """Run one of them; what it printed. Its findings fail the test."""

    def call(script: str, *words: object) -> str:
        findings = tmp_path / "findings.jsonl"
        command = [
            sys.executable,
            "-P",
            "-m",
            f"bench.robustness.{script}",
            "--findings",
            findings,
            *words,
        ]
        done = subprocess.run(
            [*map(str, command)], cwd=ROOT, env=cli_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr + _read(findings)
        return done.stdout

    return call


def _read(findings: Path) -> str:
    return findings.read_text() if findings.exists() else ""


def test_a_killed_run_and_a_killed_stage_leave_right_results(bench):
    table = bench("soak", "--only", "parent", "child", "--count", 1, "--at-once", 1)
    assert "stage: SIGKILL" in table


@pytest.mark.slow
def test_no_kill_or_fault_leaves_a_wrong_result_or_a_process(bench):
    """Each fault of each process, batches that open, and one that is killed again and again."""
    table = bench("soak", "--only", "parent", "child", "opening", "--count", 9)
    for row in ("guard: SIGSTOP", "template: SIGSEGV", "stage: SIGKILL", "batch opening, killed"):
        assert row in table
    assert "batch of 20" in bench(
        "soak", "--only", "batch", "--count", 1, "--pictures", 20, "--kills", 5
    )


def test_workers_that_are_killed_lose_nothing_and_do_nothing_twice():
    table = _soak_of_workers("--jobs", 32, "--workers", 2, "--shards", 4, "--drivers", 1)
    for row in ("lost", "corrupt", "finished nodes redone", "processes left"):
        assert re.search(rf"^{row} +0$", table, re.MULTILINE), table
    # Which of them depends on how fast the machine is; without a kill this would show nothing.
    assert re.search(r"(driver|guard|stage|template|worker) [1-9]", table), table


@pytest.mark.slow
def test_tasks_of_ray_that_are_killed_lose_nothing_and_do_nothing_twice():
    pytest.importorskip("ray")
    table = _soak_of_workers(
        *("--jobs", 40, "--workers", 2, "--shards", 6, "--drivers", 1),
        *("--every", 4, "--first", 8, "--ray"),
    )
    assert re.search(r"^lost +0$", table, re.MULTILINE), table


def _soak_of_workers(*words: object) -> str:
    quick = ("--every", 0.5, "--first", 0.4)
    done = subprocess.run(
        [*map(str, (sys.executable, "-P", "-m", "bench.robustness.soak_workers", *quick, *words))],
        cwd=ROOT,
        env=cli_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_damaged_pictures_and_records_are_refused_in_words(bench):
    table = bench("fuzz", "--count", 16, "--at-once", 1)
    for row in ("picture", "run.json", "config file"):
        assert row in table


@pytest.mark.slow
def test_many_damaged_pictures_and_records_are_refused_in_words(bench):
    bench("fuzz", "--count", 400, "--seed", 2)
