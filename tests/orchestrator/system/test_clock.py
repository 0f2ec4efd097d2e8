"""The clock that limits are held against."""

from __future__ import annotations

import time

import pytest

from orchestrator.system import clock


@pytest.fixture
def system(monkeypatch) -> list[float]:
    """The system's clock: its last entry is the time."""
    times = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: times[-1])
    return times


def test_it_runs_while_it_is_looked_at(system):
    ours = clock._Clock()
    began = ours.now()
    for _ in range(40):
        system.append(system[-1] + clock.LOOK_SECONDS)
        ours.now()
    assert ours.now() - began == pytest.approx(40 * clock.LOOK_SECONDS)


@pytest.mark.parametrize("freeze", [1.0, 60.0, 1e6])
def test_a_freeze_of_any_length_counts_next_to_nothing(system, freeze):
    ours = clock._Clock()
    began = ours.now()
    system.append(system[-1] + freeze)
    assert ours.now() - began <= clock.MOST_SECONDS


def test_whoever_waits_looks_often_enough_for_it_to_run():
    assert clock.LOOK_SECONDS < clock.MOST_SECONDS
