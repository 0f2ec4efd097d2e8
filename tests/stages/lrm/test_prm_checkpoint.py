"""Loading PRM's weights: both file formats, and what an error names when a file does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from devtools.tiny.prm import PREFIX, TINY, build_prm, prm_tensors
from stages.contract import StageError
from stages.lrm.prm.config import CONFIG_FILE, PrmConfig
from stages.lrm.prm.model import load_prm


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_both_formats_give_the_same_weights(tmp_path: Path, suffix: str) -> None:
    model = load_prm(build_prm(tmp_path, seed=3, suffix=suffix))
    state, wanted = model.state_dict(), prm_tensors(TINY, seed=3)
    assert state.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(state[key], value), key


def test_half_weights_in_a_file_become_float32(tmp_path: Path) -> None:
    path = tmp_path / "prm.safetensors"
    save_file({PREFIX + key: value.half() for key, value in prm_tensors().items()}, path)
    TINY.write(tmp_path)
    assert {value.dtype for value in load_prm(path).state_dict().values()} == {torch.float32}


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    TINY.write(folder)
    path = folder / "own.ckpt"
    torch.save({"state_dict": tensors}, path)
    return path


def published() -> dict[str, torch.Tensor]:
    return {PREFIX + key: value for key, value in prm_tensors().items()}


def failure(path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        load_prm(path)
    assert caught.value.kind == "missing_weights"
    assert str(path.parent) in caught.value.message
    return caught.value


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tensors = published()
    del tensors[f"{PREFIX}transformer.layers.1.self_attn.in_proj_weight"]
    message = failure(write(tmp_path, tensors)).message
    assert f"1 missing ({PREFIX}transformer.layers.1.self_attn.in_proj_weight)" in message


def test_a_surplus_key_behind_the_prefix_is_named(tmp_path: Path) -> None:
    tensors = published() | {f"{PREFIX}transformer.extra": torch.zeros(1)}
    message = failure(write(tmp_path, tensors)).message
    assert f"1 surplus ({PREFIX}transformer.extra)" in message


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    tensors = published() | {f"{PREFIX}transformer.deconv.bias": torch.zeros(9)}
    message = failure(write(tmp_path, tensors)).message
    assert f"of another shape ({PREFIX}transformer.deconv.bias: (9,), expected (8,))" in message


def test_many_keys_are_counted(tmp_path: Path) -> None:
    tensors = {key: value for key, value in published().items() if ".mlp." not in key}
    assert "weights 8 missing (" in failure(write(tmp_path, tensors)).message


def test_a_file_of_another_model_is_told_apart(tmp_path: Path) -> None:
    assert PREFIX in failure(write(tmp_path, {"unet.weight": torch.zeros(1)})).message


def test_without_a_config_the_published_sizes_are_expected(tmp_path: Path) -> None:
    path = build_prm(tmp_path)
    assert PrmConfig.beside(path) == TINY
    (path.parent / CONFIG_FILE).unlink()
    assert PrmConfig.beside(path) == PrmConfig()
    error = failure(path)
    assert f"missing ({PREFIX}encoder.model.encoder.layer.10." in error.message
    assert CONFIG_FILE in error.hint


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        json.dumps({"depth": 3}),
        json.dumps({"encoder": 5}),
        json.dumps({"encoder": {"layers": "2"}}),
        json.dumps({"transformer": {"heads": 0}}),
        json.dumps({"transformer": {"heads": True}}),
    ],
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = build_prm(tmp_path)
    (path.parent / CONFIG_FILE).write_text(content)
    with pytest.raises(StageError, match="does not describe"):
        load_prm(path)
