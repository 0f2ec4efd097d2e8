"""What follows a failure, as a table."""

from __future__ import annotations

import typing

import pytest

from orchestrator.pipeline.profile import Attempt
from orchestrator.running.recovery import decide
from stages.contract import FailureKind

LADDER = [Attempt(device="cuda", tries=3), Attempt(device="cuda", tries=1), Attempt(tries=2)]
ENDS = {"bad_input", "disk_full"}
MAY_BE_ACCIDENTS = {"crashed", "timed_out"}
KINDS = sorted(typing.get_args(FailureKind))


@pytest.mark.parametrize("kind", sorted(ENDS))
@pytest.mark.parametrize("rung", range(3))
def test_what_no_process_can_mend_ends_the_job_on_any_rung(kind, rung):
    move = decide(kind, rung, 1, LADDER)
    assert (move.action, move.rung) == ("end", rung)


@pytest.mark.parametrize("kind", sorted(MAY_BE_ACCIDENTS))
@pytest.mark.parametrize(
    ("rung", "tries", "action", "next_rung"),
    [
        (0, 1, "repeat", 0),
        (0, 2, "repeat", 0),
        (0, 3, "next_rung", 1),
        (1, 1, "next_rung", 2),
        (2, 1, "repeat", 2),
        (2, 2, "end", 2),
    ],
)
def test_an_accident_is_repeated_as_often_as_the_rung_allows(kind, rung, tries, action, next_rung):
    move = decide(kind, rung, tries, LADDER)
    assert (move.action, move.rung) == (action, next_rung)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - ENDS - MAY_BE_ACCIDENTS))
@pytest.mark.parametrize(
    ("rung", "action", "next_rung"), [(0, "next_rung", 1), (1, "next_rung", 2), (2, "end", 2)]
)
def test_what_would_happen_again_moves_down_at_once(kind, rung, action, next_rung):
    move = decide(kind, rung, 1, LADDER)
    assert (move.action, move.rung) == (action, next_rung)


@pytest.mark.parametrize("kind", KINDS)
def test_every_walk_down_the_ladder_comes_to_an_end(kind):
    rung, tries, steps = 0, 1, 0
    while (move := decide(kind, rung, tries, LADDER)).action != "end":
        assert move.rung >= rung
        rung, tries = move.rung, tries + 1 if move.rung == rung else 1
        steps += 1
    assert steps <= sum(attempt.tries for attempt in LADDER)


def test_the_reason_says_what_comes_next():
    assert str(decide("crashed", 0, 1, LADDER)) == "repeat: the process died; try 2 of 3"
    assert str(decide("gpu_fault", 1, 1, LADDER)).endswith("next rung runs on cpu")
    assert str(decide("internal", 2, 1, LADDER)).endswith("the ladder ends here")
