"""FLUX's weights from every format that is offered, and the forms in which they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from safetensors.torch import save_file

from devtools.tiny import flux as tiny
from devtools.tiny.flux_nets import CPU, FP8_STORED, FULL, assert_same, call, loaded, relative
from stages.contract import StageError
from stages.flux.bfl_keys import to_diffusers
from stages.flux.build import Form, build
from stages.flux.checkpoints import Checkpoint, open_folder, open_transformer, transformer_config
from stages.flux.lora import read_loras
from stages.flux.ranges import transformer_ranges
from stages.flux.storage import FP8
from stages.models.lora_params import LoraChoice


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


# --- formats --------------------------------------------------------------------------------------


def test_a_diffusers_folder_gives_the_model_that_was_saved(models: Path) -> None:
    assert_same(call(loaded("flux1-dev-transformer")), call(tiny.transformer()))


def test_shards_are_found_through_their_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    model = tiny.build_flux_transformer(tmp_path, sharded=True)
    shards = list(tmp_path.rglob("*.safetensors"))
    assert len(shards) > 1
    assert_same(call(loaded("flux1-dev-transformer")), call(model))
    shards[0].unlink()
    with pytest.raises(StageError, match="flux1-dev-transformer are not on this machine") as caught:
        loaded("flux1-dev-transformer")
    assert caught.value.kind == "missing_weights"
    assert "models pull flux1-dev-transformer" in caught.value.hint


def test_a_comfy_file_is_the_same_model_rounded_to_float8(models: Path) -> None:
    model = tiny.transformer()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(FP8).float()
    assert_same(call(loaded("flux1-dev-fp8")), call(model))


def test_a_gguf_file_stays_quantised_and_computes_nearly_the_same(models: Path) -> None:
    model = loaded("flux1-dev-gguf-q8")
    assert model.transformer_blocks[0].attn.to_q.weight.dtype is torch.uint8
    assert relative(call(model), call(tiny.transformer())) < 0.02


def test_a_gguf_file_of_todays_tool_keeps_bfloat16_and_float32_beside_the_quantised(
    tmp_path: Path,
) -> None:
    tiny.build_gguf(tmp_path, "today")
    path = tmp_path / "flux1-dev-gguf-q8" / "flux1-dev-Q8_0.gguf"
    assert relative(call(loaded(str(path))), call(tiny.transformer())) < 0.02


def test_a_path_works_in_the_place_of_a_name(models: Path) -> None:
    wanted = call(loaded("flux1-dev-fp8"))
    path = models / "flux1-dev-fp8" / "flux1-dev-fp8.safetensors"
    assert_same(call(loaded(str(path))), wanted)
    folder = models / "flux1-dev-transformer" / "transformer"
    assert_same(call(loaded(str(folder))), call(tiny.transformer()))


def test_weights_are_the_files_pages_not_copies(models: Path) -> None:
    checkpoint = open_transformer("flux1-dev-transformer")
    model = build(FluxTransformer2DModel, checkpoint, FULL)
    for name, parameter in model.named_parameters():
        assert parameter.data_ptr() == checkpoint.tensors[name].data_ptr()


def test_the_shapes_of_flux1_dev_give_its_configuration() -> None:
    """As published in black-forest-labs/FLUX.1-dev, transformer/config.json."""
    wanted = {
        "attention_head_dim": 128,
        "axes_dims_rope": (16, 56, 56),
        "guidance_embeds": True,
        "in_channels": 64,
        "joint_attention_dim": 4096,
        "num_attention_heads": 24,
        "num_layers": 19,
        "num_single_layers": 38,
        "out_channels": 64,
        "patch_size": 1,
        "pooled_projection_dim": 768,
    }
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(wanted)
    assert transformer_config(model.state_dict()) == wanted
    assert transformer_config(to_diffusers(tiny.bfl_state_dict(model))) == wanted


@pytest.mark.parametrize("key", ["img_attn.qkv.scale_weight", "novelty.weight"])
def test_an_unknown_tensor_is_named(tmp_path: Path, key: str) -> None:
    """The first is what files with scaled float8 have: unscaled, they would be noise."""
    tensors = tiny.bfl_state_dict(tiny.transformer())
    tensors[f"double_blocks.0.{key}"] = torch.tensor(1.0)
    save_file(tensors, tmp_path / "own.safetensors")
    with pytest.raises(StageError, match=f"own.*double_blocks.0.{key}") as caught:
        open_transformer(str(tmp_path / "own.safetensors"))
    assert caught.value.kind == "missing_weights"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("proj_out.bias"), r"1 missing \(proj_out.bias\)"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), r"1 surplus \(extra\)"),
        (lambda tensors: tensors.update({"proj_out.bias": torch.zeros(3)}), r"\(3,\).*\(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(models: Path, change: Any, words: str) -> None:
    opened = open_transformer("flux1-dev-transformer")
    tensors = dict(opened.tensors)
    change(tensors)
    with pytest.raises(StageError, match=f"odd does not fit the model.*{words}") as caught:
        build(FluxTransformer2DModel, Checkpoint("odd", opened.config, tensors), FULL)
    assert caught.value.kind == "missing_weights"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(StageError, match="not a FLUX transformer") as caught:
        open_transformer(str(tmp_path / "other.safetensors"))
    assert caught.value.kind == "missing_weights"


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x_embedder.weight": Trap()}, tmp_path / "evil.ckpt")
    with pytest.raises(StageError, match="no state dict"):
        open_transformer(str(tmp_path / "evil.ckpt"))
    assert not (tmp_path / "ran").exists()


# --- storage --------------------------------------------------------------------------------------


def test_fp8_storage_keeps_block_weights_in_a_byte_and_comes_close(models: Path) -> None:
    model = loaded("flux1-dev-transformer", FP8_STORED)
    assert model.transformer_blocks[0].attn.to_q.weight.dtype is FP8
    assert model.transformer_blocks[0].norm1.linear.weight.dtype is torch.float32
    assert model.x_embedder.weight.dtype is torch.float32
    assert 0 < relative(call(model), call(tiny.transformer())) < 0.05


@pytest.mark.parametrize("storage", ["file", "fp8"])
def test_a_float8_file_kept_in_float8_loses_nothing(models: Path, storage: Any) -> None:
    model = loaded("flux1-dev-fp8", Form(torch.float32, storage, CPU, CPU))
    assert model.transformer_blocks[0].norm1.linear.weight.dtype is FP8
    assert_same(call(model), call(loaded("flux1-dev-fp8")))


def test_storage_as_in_the_file_rounds_nothing(models: Path) -> None:
    """Neither a file of full precision, nor layers that a LoRA was merged into."""
    form = Form(torch.float32, "file", CPU, CPU)
    model = loaded("flux1-dev-transformer", form)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    lora = read_loras([LoraChoice(weights="kiss3dgen-lora")])
    merged = loaded("flux1-dev-fp8", form, lora, merge=True)
    assert merged.transformer_blocks[0].attn.to_q.weight.dtype is torch.float32
    assert merged.transformer_blocks[1].attn.to_q.weight.dtype is FP8
    assert_same(call(merged), call(loaded("flux1-dev-fp8", FULL, lora, merge=True)))


def test_a_layer_with_a_bias_in_full_precision_is_not_kept_in_float8() -> None:
    tensors = {"a.weight": torch.zeros(2).to(FP8), "a.bias": torch.zeros(2)}
    tensors["b.weight"] = torch.zeros(2).to(FP8)
    assert Checkpoint("own", {}, tensors).float8_layers == {"b"}


# --- ControlNet -----------------------------------------------------------------------------------


def test_the_controlnet_folder_gives_the_model_that_was_saved(models: Path) -> None:
    model = build(FluxControlNetModel, open_folder("flux1-controlnet-union"), FULL)
    saved = FluxControlNetModel.from_pretrained(models / "flux1-controlnet-union")
    for name, tensor in saved.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "beside", ["scaled_fp8", "img_in.scale_weight", "img_in.weight_scale", "img_in.comfy_quant"]
)
@pytest.mark.parametrize("read", [open_transformer, transformer_ranges])
def test_float8_with_factors_beside_it_is_named_as_what_it_is(
    read: Callable[[str], object], beside: str, tmp_path: Path
) -> None:
    weights = {"img_in.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)}
    tensors = {**weights, beside: torch.ones(1)}
    path = tmp_path / "flux_dev_fp8_scaled.safetensors"
    save_file({f"model.diffusion_model.{key}": value for key, value in tensors.items()}, path)
    with pytest.raises(StageError, match='"scaled" float8') as caught:
        read(str(path))
    assert beside in caught.value.message
    assert "flux1-dev-fp8" in caught.value.hint
