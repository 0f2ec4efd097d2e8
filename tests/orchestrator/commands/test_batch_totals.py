"""What a batch took as a whole, as its runs' records have it."""

from __future__ import annotations

import pytest

from devtools.fakes.parts import make_run
from orchestrator.commands.batch_totals import Go, Totals, go_of, totals_of
from orchestrator.record.manifest import AttemptRow, NodeRecord

BEGAN = 1000.0


@pytest.fixture
def run(tmp_path):
    """What the record of a run tells, of a batch that began at `BEGAN`, with rows (card, started,
    seconds, computed)."""

    def make(
        name: str, ended: float, *rows: tuple[str, float, float, float], state: str = "done"
    ) -> Go | None:
        made = make_run(tmp_path / name)
        made.manifest.state = state  # type: ignore[assignment]
        made.manifest.finished = BEGAN + ended
        made.manifest.wall_seconds = ended
        attempts = [
            AttemptRow(
                rung=0,
                device="a card" if card else "cpu",
                card=card,
                started=BEGAN + started,
                seconds=seconds,
                outcome="done",
                timings={"compute": computed},
            )
            for card, started, seconds, computed in rows
        ]
        made.manifest.nodes = {"node": NodeRecord(state="done", attempts=attempts)}
        return go_of(made.manifest)

    return make


def test_the_whole_goes_from_its_beginning_to_the_last_picture(run):
    totals = totals_of([run("a", 20.0, ("", 1, 2, 2)), run("b", 30.0, ("", 5, 2, 2))])
    assert totals == Totals(30.0, 2, 0, None)
    assert totals.a_minute == pytest.approx(4.0)
    assert str(totals) == "2 computed in 30.0 s, 4.0 a minute"


def test_a_card_is_busy_while_it_computes_between_its_first_and_last_job(run):
    """10 s to 30 s: 5 and 9 of these 20; what comes before and behind does not count."""
    totals = totals_of([run("a", 60.0, ("0", 10, 6, 5)), run("b", 60.0, ("0", 20, 10, 9))])
    assert (totals.cards, totals.cards_busy) == (1, pytest.approx(0.7))
    assert "the card computed 70% of the time" in str(totals)


def test_of_two_cards_it_is_the_mean(run):
    totals = totals_of([run("a", 60.0, ("0", 0, 20, 20)), run("b", 60.0, ("1", 0, 10, 10))])
    assert (totals.cards, totals.cards_busy) == (2, pytest.approx(0.75))


def test_what_an_earlier_go_computed_does_not_count(run):
    old = run("a", 0.1, ("0", -500, 100, 100))  # found done when the batch was gone on with
    totals = totals_of([old, run("b", 30.0, ("0", 10, 10, 10))])
    assert totals == Totals(30.0, 1, 1, 1.0)


def test_a_batch_that_did_nothing_says_nothing(run, tmp_path):
    assert str(totals_of([])) == ""
    assert go_of(make_run(tmp_path / "new").manifest) is None
    failed = run("a", 3.0, ("", 1, 1, 1), state="failed")
    assert totals_of([failed]).computed == 0
