"""Weights that are missing, damaged or another model's: what the user is told, and what is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from devtools.profile_runs import PICTURE, Finished, link_models, orchestrate, sets

CAPTION = ("--profile", "original", "--device", "cpu", "--until", "caption", "--output", "out")
SHORT = sets("original", {"caption.max_new_tokens": 8, "caption.num_beams": 1})


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    """The tiny weights, of which the caption model's files are this test's own."""
    folder = link_models(tiny_models, tmp_path / "models", but=["florence-2-large"])
    shutil.copytree(tiny_models / "florence-2-large", folder / "florence-2-large")
    return folder


def cut(weights: Path, models: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1000])


def foreign(weights: Path, models: Path) -> None:
    shutil.copy(models / "flux1-redux" / "image_encoder" / "model.safetensors", weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "words"), [(cut, "cannot be read"), (foreign, "does not fit the model")]
)
def test_bad_weights_are_named_and_a_run_goes_on_once_they_are_mended(
    harm, words, models: Path, tiny_models: Path, tmp_path: Path
) -> None:
    weights = models / "florence-2-large" / "model.safetensors"
    harm(weights, models)
    done = orchestrate(models, tmp_path, "run", PICTURE, *CAPTION, *SHORT)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert f"caption failed (missing_weights): {weights.parent}" in message
    assert words in message
    assert "kiss3d-orchestrate resume out" in message
    assert len(message.splitlines()) <= 3, "one paragraph"
    before = Finished(tmp_path / "out").nodes["preprocess"]

    shutil.copy(tiny_models / "florence-2-large" / "model.safetensors", weights)
    resumed = orchestrate(models, tmp_path, "resume", "out")
    assert resumed.returncode == 0, resumed.stderr
    run = Finished(tmp_path / "out")
    assert run.nodes["preprocess"] == before, "what was done is kept"
    assert run.nodes["caption"]["state"] == "done"


def test_weights_that_one_node_lacks_are_asked_for_alone(models: Path, tmp_path: Path) -> None:
    shutil.rmtree(models / "florence-2-large")
    done = orchestrate(models, tmp_path, "run", PICTURE, *CAPTION[:4])
    assert done.returncode == 2
    assert done.stderr.endswith(
        "weights that this needs are not on this machine:\n"
        "  florence-2-large           1.6 GB  caption\n"
        "  -> kiss3d-orchestrate models pull florence-2-large\n"
    )
    assert list(tmp_path.glob("outputs/*")) == []
