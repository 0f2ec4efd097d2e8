"""LoRAs: every layout, merged and beside the weights, several at once, and what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from devtools.tiny import flux as tiny
from devtools.tiny.flux_nets import FP8_STORED, FULL, assert_same, call, loaded, relative
from stages.contract import StageError
from stages.flux.lora import Lora, read_loras
from stages.flux.storage import FP8, linear_layers
from stages.models.lora_params import LoraChoice, LoraParams
from stages.streaming.delta import LowRankDelta


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


def read(name: str, scale: float = 1.0) -> Lora:
    lora = read_loras([LoraChoice(weights=name, scale=scale)])
    assert lora is not None
    return lora


def with_deltas() -> FluxTransformer2DModel:
    """The tiny transformer with the tiny LoRA added by hand."""
    model = tiny.transformer()
    for layer, (down, up) in tiny.lora_layers().items():
        delta = tiny.ALPHA / len(down) * up @ down
        for target, rows in tiny.bfl_targets(layer, len(up)):
            model.get_submodule(target).weight.data += delta[rows]
    return model


@pytest.mark.parametrize("merge", [False, True])
def test_a_lora_adds_up_times_down(models: Path, merge: bool) -> None:
    found = call(loaded("flux1-dev-transformer", lora=read("kiss3dgen-lora"), merge=merge))
    wanted = call(with_deltas())
    assert_same(found, wanted)
    assert relative(wanted, call(tiny.transformer())) > 0.01


def saved(folder: Path, tensors: Mapping[str, torch.Tensor], **metadata: str) -> str:
    path = folder / "own.safetensors"
    save_file(dict(tensors), path, {"format": "pt", **metadata})
    return str(path)


def assert_equal_layers(found: Lora, wanted: Lora) -> None:
    assert found.layers.keys() == wanted.layers.keys()
    for name, layer in wanted.layers.items():
        other = found.layers[name]
        torch.testing.assert_close(other.up @ other.down, layer.up @ layer.down)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", get_args(tiny.LoraLayout))
def test_every_trainers_layout_is_read(
    models: Path, tmp_path: Path, layout: tiny.LoraLayout, dtype: torch.dtype
) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in tiny.lora_tensors(layout).items()}
    found = read(saved(tmp_path, tensors)).layers
    wanted = read("kiss3dgen-lora").layers
    assert found.keys() == wanted.keys()
    for name, layer in wanted.items():
        product, other = layer.up @ layer.down, found[name].up @ found[name].down
        assert relative(other, product) < (1e-6 if dtype is torch.float32 else 0.01)


def test_xlabs_processors_are_read_as_the_layers_that_they_stand_beside(tmp_path: Path) -> None:
    W, generator = tiny.WIDTH, torch.Generator().manual_seed(0)
    sizes = {
        "double_blocks.0.processor.qkv_lora1": (3 * W, W),
        "double_blocks.0.processor.proj_lora1": (W, W),
        "double_blocks.0.processor.qkv_lora2": (3 * W, W),
        "double_blocks.0.processor.proj_lora2": (W, W),
        "single_blocks.1.processor.qkv_lora": (3 * W, W),
        "single_blocks.1.processor.proj_lora": (W, 5 * W),
    }
    tensors = {}
    for layer, (rows, columns) in sizes.items():
        tensors[f"{layer}.down.weight"] = torch.randn(4, columns, generator=generator)
        tensors[f"{layer}.up.weight"] = torch.randn(rows, 4, generator=generator)
    lora = read(saved(tmp_path, tensors))
    lora.check({n: tuple(m.weight.shape) for n, m in linear_layers(tiny.transformer()).items()})
    for target, source, part in (
        ("transformer_blocks.0.attn.to_k", "double_blocks.0.processor.qkv_lora1", slice(W, 2 * W)),
        ("transformer_blocks.0.attn.to_out.0", "double_blocks.0.processor.proj_lora1", slice(W)),
        ("transformer_blocks.0.attn.add_q_proj", "double_blocks.0.processor.qkv_lora2", slice(W)),
        ("transformer_blocks.0.attn.to_add_out", "double_blocks.0.processor.proj_lora2", slice(W)),
        ("single_transformer_blocks.1.attn.to_v", "single_blocks.1.processor.qkv_lora",
         slice(2 * W, 3 * W)),
        ("single_transformer_blocks.1.proj_out", "single_blocks.1.processor.proj_lora", slice(W)),
    ):  # fmt: skip
        layer = lora.layers[target]
        wanted = tensors[f"{source}.up.weight"][part] @ tensors[f"{source}.down.weight"]
        torch.testing.assert_close(layer.up @ layer.down, wanted)
    assert len(lora.layers) == 3 + 1 + 3 + 1 + 3 + 1


def test_peft_settings_in_the_header_scale_a_lora_without_alphas(tmp_path: Path) -> None:
    tensors = {
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 64),
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(64, 4),
        "transformer.transformer_blocks.0.ff.net.2.lora_A.weight": torch.ones(2, 256),
        "transformer.transformer_blocks.0.ff.net.2.lora_B.weight": torch.ones(64, 2),
    }
    settings = {"transformer.r": 4, "transformer.lora_alpha": 8}
    settings |= {"transformer.alpha_pattern": {"ff.net.2": 6}}
    name = saved(tmp_path, tensors, lora_adapter_metadata=json.dumps(settings))
    layers = read(name).layers
    assert float(layers["transformer_blocks.0.attn.to_q"].up[0, 0]) == 8 / 4
    assert float(layers["transformer_blocks.0.ff.net.2"].up[0, 0]) == 6 / 2
    settings["transformer.use_rslora"] = True
    name = saved(tmp_path, tensors, lora_adapter_metadata=json.dumps(settings))
    assert float(read(name).layers["transformer_blocks.0.attn.to_q"].up[0, 0]) == 8 / 2


def test_peft_settings_beside_a_file_scale_it(tmp_path: Path) -> None:
    tensors = tiny.lora_tensors("peft")
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    plain = read(str(tmp_path / "adapter_model.safetensors")).layers
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    scaled = read(str(tmp_path / "adapter_model.safetensors")).layers
    for name, layer in plain.items():
        torch.testing.assert_close(scaled[name].up, layer.up * 8 / layer.up.shape[1])


def test_several_loras_add_up_in_one_go_each_with_its_scale(models: Path, tmp_path: Path) -> None:
    other = {key: tensor * 0.5 for key, tensor in tiny.lora_tensors("ai-toolkit").items()}
    params = LoraParams(lora_scale=0.5, loras=({"weights": saved(tmp_path, other), "scale": -2.0},))
    both = read_loras(params.used_loras)
    first, second = read("kiss3dgen-lora", 0.5), read(saved(tmp_path, other), -2.0)
    assert both is not None
    for name, layer in both.layers.items():
        product = first.layers[name].up @ first.layers[name].down
        product = product + second.layers[name].up @ second.layers[name].down
        torch.testing.assert_close(layer.up @ layer.down, product)
    one = call(loaded("flux1-dev-transformer", lora=both, merge=True))
    beside = call(loaded("flux1-dev-transformer", lora=both))
    assert_same(one, beside)
    assert relative(one, call(with_deltas())) > 0.001


def test_a_lora_of_scale_zero_is_not_asked_for() -> None:
    params = LoraParams(lora_scale=0, loras=({"weights": "a", "scale": 0}, {"weights": "b"}))
    assert [choice.weights for choice in params.used_loras] == ["b"]
    assert read_loras(()) is None


def test_diffusers_reads_the_same_lora(models: Path) -> None:
    """Its converter knows linear1 only at FLUX.1-dev's width, so that layer is left out."""
    from diffusers.loaders import FluxLoraLoaderMixin

    tensors = load_file(models / "kiss3dgen-lora" / "rgb_normal.safetensors")
    tensors = {key: tensor for key, tensor in tensors.items() if "linear1" not in key}
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("lora_te1_")}
    state = FluxLoraLoaderMixin.lora_state_dict(dict(tensors))
    for name, layer in read("kiss3dgen-lora", 1.0).layers.items():
        if f"transformer.{name}.lora_A.weight" in state:
            pair = [state.pop(f"transformer.{name}.lora_{half}.weight") for half in "BA"]
            torch.testing.assert_close(layer.up @ layer.down, pair[0] @ pair[1])
    assert not state


def test_the_scale_multiplies_the_lora(models: Path) -> None:
    half, whole = (read("kiss3dgen-lora", scale).layers for scale in (0.5, 1.0))
    for name in whole:
        torch.testing.assert_close(2.0 * half[name].up, whole[name].up)


def test_an_adapter_beside_fp8_weights_is_kept_exactly(models: Path) -> None:
    lora = read("kiss3dgen-lora", 1.0)
    layer = loaded("flux1-dev-fp8", FP8_STORED, lora).transformer_blocks[0].attn.to_q
    assert layer.base_layer.weight.dtype is FP8
    down = lora.layers["transformer_blocks.0.attn.to_q"].down
    assert torch.equal(layer.lora_A["kiss3d"].weight, down)
    beside = call(loaded("flux1-dev-fp8", FP8_STORED, lora))
    assert_same(beside, call(loaded("flux1-dev-fp8", FULL, lora)))


def test_an_adapter_works_beside_gguf_weights_and_merging_is_refused(models: Path) -> None:
    lora = read("kiss3dgen-lora", 1.0)
    assert relative(call(loaded("flux1-dev-gguf-q8", lora=lora)), call(with_deltas())) < 0.02
    with pytest.raises(StageError, match="flux1-dev-gguf-q8") as caught:
        loaded("flux1-dev-gguf-q8", lora=lora, merge=True)
    assert "lora_merge" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("lora_unet_double_blocks_0_novelty.lora_down.weight", (4, 64), "novelty"),
        ("lora_unet_double_blocks_9_img_mlp_2.lora_down.weight", (4, 256), "one matrix of a pair"),
        ("transformer.x_embedder.lora_magnitude_vector", (4,), "a DoRA.*x_embedder"),
        ("lora_unet_double_blocks_0_img_mlp_2.dora_scale", (4,), "a DoRA.*img_mlp_2"),
        ("lora_unet_double_blocks_0_img_mlp_2.hada_w1_a", (4, 4), "a LoHa"),
        ("lycoris_transformer_blocks_0_attn_to_q.lokr_w1", (4, 4), "a LoKr"),
        ("transformer.proj_out.lora_B.bias", (4,), "a LoRA with biases"),
        ("double_blocks.0.img_mlp.2.diff", (4,), "whole differences"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", (4,), "normalisations"),
        ("something.else", (4,), "no LoRA that is known.*something"),
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
        read(str(tmp_path / "own.safetensors"), 1.0)
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


def test_layers_of_the_text_encoders_are_counted(models: Path, tmp_path: Path) -> None:
    tensors = tiny.lora_tensors("kohya") | tiny.clip_lora_tensors()
    tensors["lora_te2_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight"] = torch.ones(2, 8)
    tensors["lora_te2_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight"] = torch.ones(8, 2)
    lora = read(saved(tmp_path, tensors))
    assert (lora.clip_layers, lora.t5_layers) == (12, 1)
    assert_equal_layers(lora, read("kiss3dgen-lora"))
