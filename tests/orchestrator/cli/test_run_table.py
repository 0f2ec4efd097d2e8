"""The table of nodes at the end of a run."""

from __future__ import annotations

import pytest

from orchestrator.cli.run_table import table_row
from orchestrator.record.manifest import AttemptRow, NodeRecord


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        (["done"], "done"),
        (["crashed", "done"], "done (attempt 2)"),
        (["crashed", "crashed", "done"], "done (attempt 3)"),
        (["done", "done"], "done"),
        (["crashed", "done", "done"], "done"),
        (["done", "crashed", "done"], "done (attempt 2)"),
    ],
)
def test_a_node_that_is_computed_again_was_not_tried_again(outcomes, state):
    attempts = [AttemptRow(rung=0, device="cpu", outcome=outcome) for outcome in outcomes]
    assert table_row("isomer", NodeRecord(state="done", attempts=attempts))[:2] == ("isomer", state)
