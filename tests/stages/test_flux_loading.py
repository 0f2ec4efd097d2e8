"""FLUX's weights from every format that is offered, storage forms, and the LoRA."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from tiny import flux as tiny

from stages.contract import StageError
from stages.flux.bfl_keys import to_diffusers
from stages.flux.build import Form, build
from stages.flux.checkpoints import Checkpoint, open_folder, open_transformer, transformer_config
from stages.flux.lora import Lora, LowRank, read_lora
from stages.flux.storage import FP8, stored_small

CPU = torch.device("cpu")
torch.set_num_threads(1)  # the tensors are too small for more
FULL = Form(torch.float32, "full", CPU, CPU)


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


def call(model: Any) -> torch.Tensor:
    """Its velocity for fixed inputs."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        return model(
            hidden_states=torch.randn(1, 8, 4 * tiny.CHANNELS, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, tiny.TEXT, generator=generator),
            pooled_projections=torch.randn(1, tiny.POOLED, generator=generator),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([3.5]),
            txt_ids=torch.zeros(5, 3),
            img_ids=torch.arange(24.0).reshape(8, 3),
            return_dict=False,
        )[0]


def loaded(name: str, form: Form = FULL, lora: Lora | None = None, merge: bool = False) -> Any:
    return build(FluxTransformer2DModel, open_transformer(name), form, lora, merge)


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Not to the last bit: BLAS takes another path for a mapped file's alignment."""
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


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
    with pytest.raises(StageError, match=shards[0].name) as caught:
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


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    tensors = tiny.bfl_state_dict(tiny.transformer())
    tensors["double_blocks.0.img_attn.qkv.scale_weight"] = torch.ones(1)
    tensors["double_blocks.0.novelty.weight"] = torch.ones(1)
    save_file(tensors, tmp_path / "own.safetensors")
    with pytest.raises(StageError, match=r"own.*double_blocks\.0\.novelty\.weight") as caught:
        open_transformer(str(tmp_path / "own.safetensors"))
    assert caught.value.kind == "bad_input"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("proj_out.bias"), "proj_out.bias is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "extra is .* no such tensor"),
        (lambda tensors: tensors.update({"proj_out.bias": torch.zeros(3)}), r"\(3,\).*\(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(models: Path, change: Any, words: str) -> None:
    opened = open_transformer("flux1-dev-transformer")
    tensors = dict(opened.tensors)
    change(tensors)
    with pytest.raises(StageError, match=words):
        build(FluxTransformer2DModel, Checkpoint("odd", opened.config, tensors), FULL)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(StageError, match="not a FLUX transformer"):
        open_transformer(str(tmp_path / "other.safetensors"))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x_embedder.weight": Trap()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        open_transformer(str(tmp_path / "evil.ckpt"))
    assert not (tmp_path / "ran").exists()


# --- storage --------------------------------------------------------------------------------------


def test_fp8_storage_keeps_block_weights_in_a_byte_and_comes_close(models: Path) -> None:
    model = loaded("flux1-dev-transformer", Form(torch.float32, "fp8", CPU, CPU))
    assert model.transformer_blocks[0].attn.to_q.weight.dtype is FP8
    assert model.transformer_blocks[0].norm1.linear.weight.dtype is torch.float32
    assert model.x_embedder.weight.dtype is torch.float32
    assert 0 < relative(call(model), call(tiny.transformer())) < 0.05


def test_fp8_storage_of_a_float8_file_loses_nothing(models: Path) -> None:
    model = loaded("flux1-dev-fp8", Form(torch.float32, "fp8", CPU, CPU))
    assert model.transformer_blocks[0].norm1.linear.weight.dtype is FP8
    assert_same(call(model), call(loaded("flux1-dev-fp8")))


def test_nf4_takes_the_blocks_linear_layers_only() -> None:
    names = ["x_embedder", "proj_out", "transformer_blocks.0.norm1.linear"]
    names += ["single_transformer_blocks.3.proj_out", "controlnet_blocks.1"]
    assert stored_small(names, "nf4", False) == frozenset(names[2:])


def test_nf4_without_bitsandbytes_says_what_to_install(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "bitsandbytes":
            raise ImportError("No module named 'bitsandbytes'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StageError) as caught:
        loaded("flux1-dev-transformer", Form(torch.float32, "nf4", CPU, CPU))
    assert caught.value.kind == "missing_dependency"
    assert "kiss3d-orchestrate[nf4]" in caught.value.hint


def test_nf4_packs_four_bits_a_weight(models: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = loaded("flux1-dev-transformer", Form(torch.float32, "nf4", CPU, CPU))
    weight = model.transformer_blocks[0].attn.to_q.weight
    assert weight.numel() == tiny.WIDTH * tiny.WIDTH // 2
    assert 0 < relative(call(model), call(tiny.transformer())) < 0.3


# --- LoRA -----------------------------------------------------------------------------------------


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
    form = Form(torch.float32, "fp8", CPU, CPU)
    lora = read_lora("kiss3dgen-lora", 1.0)
    layer = loaded("flux1-dev-fp8", form, lora).transformer_blocks[0].attn.to_q
    assert layer.base_layer.weight.dtype is FP8
    down = lora.layers["transformer_blocks.0.attn.to_q"].down
    assert torch.equal(layer.lora_A["kiss3d"].weight, down)
    beside = call(loaded("flux1-dev-fp8", form, lora))
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
    assert caught.value.kind == "bad_input"


@pytest.mark.parametrize(
    ("layer", "words"),
    [("transformer_blocks.99.attn.to_q", "no layer"), ("proj_out", r"\(64, 64\).*\(16, 64\)")],
)
def test_a_lora_for_another_net_is_refused(models: Path, layer: str, words: str) -> None:
    lora = Lora("own", {layer: LowRank(torch.zeros(2, 64), torch.zeros(64, 2))})
    with pytest.raises(StageError, match=words):
        loaded("flux1-dev-transformer", lora=lora)


def test_keys_for_the_text_encoders_are_counted(tmp_path: Path) -> None:
    tiny.build_lora(tmp_path)
    path = tmp_path / "kiss3dgen-lora" / "rgb_normal.safetensors"
    tensors = load_file(path)
    tensors["lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"] = torch.ones(1)
    save_file(tensors, path)
    assert read_lora(str(path), 1.0).text_encoder_keys == 1


# --- ControlNet -----------------------------------------------------------------------------------


def test_the_controlnet_folder_gives_the_model_that_was_saved(models: Path) -> None:
    model = build(FluxControlNetModel, open_folder("flux1-controlnet-union"), FULL)
    saved = FluxControlNetModel.from_pretrained(models / "flux1-controlnet-union")
    for name, tensor in saved.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], tensor)
