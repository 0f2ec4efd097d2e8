"""The end of a run on the screen: what is doubtful comes after the table, a line for each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli import answers, run_table


def test_each_warning_and_each_cost_is_one_line_after_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run: Any = SimpleNamespace(
        path=tmp_path,
        manifest=SimpleNamespace(
            degraded={"views": "made\nwithout a card"},
            warnings={"preprocess": ["in two\npieces", "cut off"], "lift": ["thin"]},
            state="done",
            wall_seconds=1.0,
            no_report="",
            exports=[],
            former_exports=[],
            kept="all",
        ),
    )
    row = ("preprocess", "done", *["-"] * (len(run_table.TABLE_HEADER) - 2))
    monkeypatch.setattr(run_table, "table_rows", lambda run: [row])
    answers.print_run(run, as_json=False)
    told = capsys.readouterr().err.splitlines()
    table = next(i for i, line in enumerate(told) if line.startswith("preprocess"))
    assert told[table + 1 :] == [
        r"degraded: views: made\nwithout a card",
        r"warning: preprocess: in two\npieces",
        "warning: preprocess: cut off",
        "warning: lift: thin",
        "done in 1.00 s",
    ]
