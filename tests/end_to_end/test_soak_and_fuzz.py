"""Short versions of `bench/robustness/soak.py` and `bench/robustness/fuzz.py`."""

from __future__ import annotations

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


def test_damaged_pictures_and_records_are_refused_in_words(bench):
    table = bench("fuzz", "--count", 16, "--at-once", 1)
    for row in ("picture", "run.json", "config file"):
        assert row in table


@pytest.mark.slow
def test_many_damaged_pictures_and_records_are_refused_in_words(bench):
    bench("fuzz", "--count", 400, "--seed", 2)
