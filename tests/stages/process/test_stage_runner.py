"""What holds for every stage: before it is asked to load, and when its outputs are written."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stages.contract import ArtifactSpec, Context, Stage, StageError
from stages.contract.registry import BUILT_IN
from stages.process import single_job
from stages.process.stage_runner import OutputFile, StageRunner


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_stage_sees_float16_on_the_cpu(name: str) -> None:
    with pytest.raises(StageError, match=f"{name} cannot compute in float16") as caught:
        StageRunner(name, 0).load({}, Context(dtype="float16"))
    assert caught.value.kind == "bad_input"
    assert "bfloat16" in caught.value.hint


links = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "node").mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    return tmp_path / "node"


@links
@pytest.mark.parametrize("target", ["mine", "none"])
def test_a_large_output_is_not_written_through_a_link(
    target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where somebody has guessed the temporary file's name."""

    class Text(Stage):
        name, summary = "text", "some text"
        inputs = ()
        outputs = (ArtifactSpec("words", "text", ""),)

        def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
            return {"words": "new"}

    monkeypatch.setattr("stages.process.stage_runner.stage_class", lambda name: Text)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
    (folder / ".words.txt.00000000.part").symlink_to(folder.parent / target)
    core = StageRunner("text", inline_max_bytes=0)
    core.load({}, Context())
    with pytest.raises(FileExistsError):
        core.run({}, folder, folder, 42, lambda *_: None)
    assert (folder.parent / "mine").read_bytes() == b"mine"
    assert not (folder.parent / "none").exists()


@links
@pytest.mark.parametrize("hard", [False, True])
def test_a_small_output_of_a_job_by_hand_replaces_a_link(hard: bool, folder: Path) -> None:
    link = folder / "words.txt"
    if hard:
        link.hardlink_to(folder.parent / "mine")
    else:
        link.symlink_to(folder.parent / "mine")
    single_job.store_output(folder, OutputFile("words.txt", 3, content=b"new"))
    assert (folder.parent / "mine").read_bytes() == b"mine"
    assert link.read_bytes() == b"new"
    assert [path.name for path in folder.iterdir()] == ["words.txt"]
