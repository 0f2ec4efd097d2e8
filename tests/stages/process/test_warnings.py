"""What a stage warns of reaches the record and the person, in every way of running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stages.contract import ArtifactSpec, Context, Stage
from stages.process.stage_runner import MAX_WARNING, StageRunner

TEXT = ArtifactSpec("told", "text", "a text")


class Talker(Stage):
    name = "talker"
    summary = "warns"
    inputs = ()
    outputs = (TEXT,)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        context.warn("look at it")
        context.warn("look at it")
        context.warn("x" * 5000)
        context.warn("half is missing", degraded=True)
        return {TEXT.name: "done"}


def test_warnings_are_collected_for_each_job_once_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.process.stage_runner.stage_class", lambda name: Talker)
    core = StageRunner("talker", 1 << 20)
    core.load({}, Context())
    for _ in range(2):
        result = core.run({}, tmp_path, tmp_path, 42, lambda *a: None)
        assert result.warnings == ["look at it", "x" * MAX_WARNING]
        assert result.degraded == ["half is missing"]


def test_a_stage_may_warn_where_nobody_listens() -> None:
    Context().warn("nobody hears", degraded=True)
