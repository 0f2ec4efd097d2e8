"""The LoRA: both key styles, merged and beside the weights, and what cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from tiny import flux as tiny
from tiny.flux_nets import FP8_STORED, FULL, assert_same, call, loaded, relative

from stages.common.streaming.delta import LowRankDelta
from stages.contract import StageError
from stages.flux.lora import Lora, read_lora
from stages.flux.storage import FP8


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.build_all(folder)
    tiny.build_gguf(folder)
    return folder


@pytest.fixture
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


def with_deltas() -> FluxTransformer2DModel:
    """The tiny transformer with the tiny LoRA added by hand."""
    model = tiny.transformer()
    for layer, (down, up) in tiny.lora_layers().items():
        delta = tiny.ALPHA / len(down) * up @ down
        for target, rows in tiny.bfl_targets(layer, len(up)):
            model.get_submodule(target).weight.data += delta[rows]
    return model


@pytest.mark.parametrize("keys", ["kohya", "diffusers"])
@pytest.mark.parametrize("merge", [False, True])
def test_a_lora_adds_up_times_down(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Any, merge: bool
) -> None:
    tiny.build_lora(tmp_path, keys)
    path = tmp_path / "kiss3dgen-lora" / "rgb_normal.safetensors"
    found = call(loaded("flux1-dev-transformer", lora=read_lora(str(path), 1.0), merge=merge))
    wanted = call(with_deltas())
    assert_same(found, wanted)
    assert relative(wanted, call(tiny.transformer())) > 0.01


def test_diffusers_reads_the_same_lora(models: Path) -> None:
    """Its converter knows linear1 only at FLUX.1-dev's width, so that layer is left out."""
    from diffusers.loaders import FluxLoraLoaderMixin

    tensors = load_file(models / "kiss3dgen-lora" / "rgb_normal.safetensors")
    tensors = {key: tensor for key, tensor in tensors.items() if "linear1" not in key}
    state = FluxLoraLoaderMixin.lora_state_dict(dict(tensors))
    for name, layer in read_lora("kiss3dgen-lora", 1.0).layers.items():
        if f"transformer.{name}.lora_A.weight" in state:
            pair = [state.pop(f"transformer.{name}.lora_{half}.weight") for half in "BA"]
            torch.testing.assert_close(layer.up @ layer.down, pair[0] @ pair[1])
    assert not state


def test_the_scale_multiplies_the_lora(models: Path) -> None:
    half, whole = (read_lora("kiss3dgen-lora", scale).layers for scale in (0.5, 1.0))
    for name in whole:
        torch.testing.assert_close(2.0 * half[name].up, whole[name].up)


def test_an_adapter_beside_fp8_weights_is_kept_exactly(models: Path) -> None:
    lora = read_lora("kiss3dgen-lora", 1.0)
    layer = loaded("flux1-dev-fp8", FP8_STORED, lora).transformer_blocks[0].attn.to_q
    assert layer.base_layer.weight.dtype is FP8
    down = lora.layers["transformer_blocks.0.attn.to_q"].down
    assert torch.equal(layer.lora_A["kiss3d"].weight, down)
    beside = call(loaded("flux1-dev-fp8", FP8_STORED, lora))
    assert_same(beside, call(loaded("flux1-dev-fp8", FULL, lora)))


def test_an_adapter_works_beside_gguf_weights_and_merging_is_refused(models: Path) -> None:
    lora = read_lora("kiss3dgen-lora", 1.0)
    assert relative(call(loaded("flux1-dev-gguf-q8", lora=lora)), call(with_deltas())) < 0.02
    with pytest.raises(StageError, match="flux1-dev-gguf-q8") as caught:
        loaded("flux1-dev-gguf-q8", lora=lora, merge=True)
    assert "lora_merge" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("lora_unet_double_blocks_0_novelty.lora_down.weight", (4, 64), "novelty"),
        ("lora_unet_double_blocks_9_img_mlp_2.lora_down.weight", (4, 256), "not a pair"),
        ("transformer.norm.lora_magnitude_vector", (4,), "neither kohya's nor diffusers'"),
        ("double_blocks.0.img_mlp.2.diff", (4,), "neither kohya's nor diffusers'"),
    ],
)
def test_a_lora_key_that_cannot_be_used_is_named(
    tmp_path: Path, key: str, shape: tuple[int, ...], words: str
) -> None:
    tensors = {key: torch.zeros(shape)}
    if "novelty" in key:
        tensors[key.replace("down", "up")] = torch.zeros(64, 4)
    save_file(tensors, tmp_path / "own.safetensors")
    with pytest.raises(StageError, match=words) as caught:
        read_lora(str(tmp_path / "own.safetensors"), 1.0)
    assert caught.value.kind == "missing_weights"


@pytest.mark.parametrize(
    ("layer", "words"),
    [("transformer_blocks.99.attn.to_q", "no layer"), ("proj_out", r"\(64, 64\).*\(16, 64\)")],
)
def test_a_lora_for_another_net_is_refused(models: Path, layer: str, words: str) -> None:
    lora = Lora("own", {layer: LowRankDelta(torch.zeros(64, 2), torch.zeros(2, 64))})
    with pytest.raises(StageError, match=words) as caught:
        loaded("flux1-dev-transformer", lora=lora)
    assert caught.value.kind == "missing_weights"


def test_keys_for_the_text_encoders_are_counted(tmp_path: Path) -> None:
    tiny.build_lora(tmp_path)
    path = tmp_path / "kiss3dgen-lora" / "rgb_normal.safetensors"
    tensors = load_file(path)
    tensors["lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"] = torch.ones(1)
    save_file(tensors, path)
    assert read_lora(str(path), 1.0).text_encoder_keys == 1
