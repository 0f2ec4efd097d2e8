"""bin/test runs the checks, then pytest, and fails if any of them does."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import _venv
import pytest

from devtools.fakes.checkout import FakeCheckout

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and locks")

TOOL = """
import os, shlex, sys
name = os.path.basename(__file__)[:-3]
print(shlex.join([name, *sys.argv[1:]]), flush=True)
sys.exit(int(os.environ.get(f"{name}_exits", 0)))
"""

Outcome = subprocess.CompletedProcess[str]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCheckout:
    """A checkout whose tools only say how they were called."""
    monkeypatch.delenv("KISS3D_VENV_CACHE", raising=False)
    checkout = FakeCheckout.make(tmp_path)
    for name in ("ruff", "mypy", "pytest"):
        (tmp_path / f"{name}.py").write_text(TOOL)
    for venv in (checkout.venv(), _venv.environment_of("dev", checkout.path)):
        checkout.set_up(venv=venv)
    return checkout


def bin_test(checkout: FakeCheckout, *arguments: str, **exits: int) -> Outcome:
    environment = {**os.environ, **{f"{name}_exits": str(exits[name]) for name in exits}}
    return checkout.run(*arguments, launcher="test", env=environment)


def pytest_arguments(outcome: Outcome) -> list[str]:
    last = shlex.split(outcome.stdout.splitlines()[-1])
    assert last[0] == "pytest"
    return last[1:]


def without_workers(outcome: Outcome) -> list[str]:
    """pytest's arguments for a whole run, which has at least two workers."""
    arguments = pytest_arguments(outcome)
    (workers,) = [word for word in arguments if word.startswith("--numprocesses=")]
    assert int(workers.partition("=")[2]) >= 2
    return [word for word in arguments if word not in (workers, "--dist=loadfile")]


def test_without_arguments_everything_but_slow_tests_runs(checkout: FakeCheckout) -> None:
    outcome = bin_test(checkout)
    assert outcome.returncode == 0, outcome.stderr
    tools = [line.split()[0] for line in outcome.stdout.splitlines() if " ok " not in line]
    assert tools == ["ruff", "ruff", "mypy", "pytest"]
    assert without_workers(outcome) == ["-m", "not slow", "--maxfail=20"]
    assert outcome.stderr == ""


@pytest.mark.parametrize("tool", ["ruff", "mypy"])
def test_a_failed_check_fails_the_whole_and_the_tests_still_run(
    checkout: FakeCheckout, tool: str
) -> None:
    outcome = bin_test(checkout, **{tool: 1})
    assert outcome.returncode == 1
    assert pytest_arguments(outcome)
    assert f"FAILED before the tests: {tool}" in outcome.stderr


def test_the_status_of_pytest_is_passed_on(checkout: FakeCheckout) -> None:
    assert bin_test(checkout, pytest=5).returncode == 5


def test_with_arguments_only_pytest_runs(checkout: FakeCheckout) -> None:
    outcome = bin_test(checkout, "-k", "launcher", mypy=1)
    assert outcome.returncode == 0
    assert outcome.stdout.splitlines() == ["pytest -m 'not slow' -k launcher"]


@pytest.mark.parametrize("arguments", [("-m", "gpu"), ("tests/bin/test_x.py::test_slow_one",)])
def test_a_choice_of_markers_or_of_one_test_is_kept(
    checkout: FakeCheckout, arguments: tuple[str, ...]
) -> None:
    assert pytest_arguments(bin_test(checkout, *arguments)) == list(arguments)


def test_slow_tests_run_on_demand(checkout: FakeCheckout) -> None:
    outcome = bin_test(checkout, "--slow")
    assert "mypy" in outcome.stdout
    assert without_workers(outcome) == ["--maxfail=20"]


def test_paths_are_relative_to_the_users_folder(checkout: FakeCheckout) -> None:
    folder = checkout.root / "tests"
    folder.mkdir()
    (folder / "test_x.py").touch()
    outcome = checkout.run("test_x.py::test_y", launcher="test", cwd=folder)
    assert pytest_arguments(outcome) == [f"{folder}/test_x.py::test_y"]


def test_help_needs_no_environment(tmp_path: Path) -> None:
    outcome = FakeCheckout.make(tmp_path).run("--help", launcher="test")
    assert outcome.returncode == 0
    assert "bin/test --slow" in outcome.stdout
    assert not (tmp_path / ".venv").exists()
