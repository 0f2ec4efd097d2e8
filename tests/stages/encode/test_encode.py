"""The encode stage: equal to plain diffusers, one block in memory at a time, and its errors."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer, SiglipVisionModel

from devtools.plain_diffusers import embeddings
from devtools.tiny.encoders import IMAGE_TOKENS, POOLED_DIM, TEXT_DIM, build_flux_text, build_redux
from devtools.tiny.flux import ALPHA, build_lora, clip_lora_tensors
from stages.contract import BadInput, Context, StageError, codec
from stages.encode.placement import ACTIVATION_BYTES, streaming_budget, visit_in_turn
from stages.encode.redux import ReduxEmbedder, join
from stages.encode.stage import BUNDLE_PROMPT, Encode, EncodeParams
from stages.encode.text import T5Text
from stages.models import pretrained
from stages.process.stage_runner import StageRunner
from stages.process.vram_cap import CONTEXT_BYTES
from stages.weights.catalogue import find

PROMPT = "a red vase with two handles"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_flux_text(folder)
    build_redux(folder)
    build_lora(folder)
    return folder


@pytest.fixture(autouse=True)
def own_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(models))


def picture(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def loaded(dtype: str = "float32", **params: Any) -> Encode:
    stage = Encode(EncodeParams(**{"lora": "", **params}))
    stage.load(Context(dtype=dtype, threads=1))
    return stage


def run(stage: Encode, prompt: str = PROMPT, side: int | None = 512) -> tuple[np.ndarray, ...]:
    """prompt_embeds and pooled_embeds, held to the contract."""
    inputs: dict[str, Any] = {"prompt": prompt}
    if side is not None:
        inputs["image"] = picture(side)
    outputs = stage.run(inputs, Context(threads=1))
    assert set(outputs) == {"prompt_embeds", "pooled_embeds"}
    for spec in stage.outputs:
        spec.check(outputs[spec.name])
    return outputs["prompt_embeds"], outputs["pooled_embeds"]


@pytest.mark.parametrize("side", [512, 300, 700])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_embeddings_are_those_of_plain_diffusers(models: Path, side: int, strength: float) -> None:
    tokens, pooled = run(loaded(redux_strength=strength), side=side)
    expected, expected_pooled = embeddings(models, PROMPT, picture(side), strength)
    assert tokens.shape == (512 + IMAGE_TOKENS, TEXT_DIM)
    assert pooled.shape == (POOLED_DIM,)
    assert np.abs(tokens - expected).max() <= 1e-5
    assert np.abs(pooled - expected_pooled).max() <= 1e-5


def test_edges_against_white_do_not_leave_the_range_that_siglip_was_trained_on(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    forward = SiglipVisionModel.forward

    def watched(self: SiglipVisionModel, pixels: torch.Tensor, **options: Any) -> Any:
        seen.append(pixels)
        return forward(self, pixels, **options)

    monkeypatch.setattr(SiglipVisionModel, "forward", watched)
    edge = np.full((512, 512, 3), 255, np.uint8)
    edge[:, :256] = 0
    loaded().run({"prompt": PROMPT, "image": edge}, Context(threads=1))
    assert seen[0].min() == -1.0
    assert seen[0].max() == 1.0


def test_embedder_strength_and_order_match_the_reference() -> None:
    with np.load(Path(__file__).resolve().parents[2] / "golden" / "redux_small.npz") as arrays:
        golden = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    embedder = ReduxEmbedder(12, 16)
    embedder.load_state_dict({k[3:]: v for k, v in golden.items() if k.startswith("sd.")})
    with torch.inference_mode():
        image = embedder(golden["siglip_tokens"])[0]
        joined = join(golden["t5_embeds"][0], image, float(golden["strength"]))
    assert (image - golden["image_embeds"][0]).abs().max() <= 1e-5
    assert (joined - golden["prompt_embeds"][0]).abs().max() <= 1e-5


def test_scales_multiply_all_tokens_and_the_pooled_embedding() -> None:
    tokens, pooled = run(loaded())
    scaled, scaled_pooled = run(loaded(prompt_embeds_scale=2.0, pooled_embeds_scale=0.5))
    assert np.allclose(scaled, 2.0 * tokens)
    assert np.allclose(scaled_pooled, 0.5 * pooled)


def test_the_prompt_changes_the_tokens_and_not_the_pooled_embedding() -> None:
    stage = loaded()
    tokens, pooled = run(stage)
    others, other_pooled = run(stage, prompt="something else")
    assert not np.allclose(tokens[:512], others[:512])
    assert np.array_equal(tokens[512:], others[512:])
    assert np.array_equal(pooled, other_pooled)


def test_without_redux_no_picture_is_needed_and_only_text_tokens_come() -> None:
    stage = loaded(redux=False)
    tokens, _ = run(stage, side=None)
    with_redux, _ = run(loaded())
    assert np.array_equal(tokens, with_redux[:512])
    assert Encode.weights(EncodeParams(redux=False, lora="")) == ("flux1-dev-text",)
    wanted = ("flux1-dev-text", "flux1-redux", "kiss3dgen-lora")
    assert Encode.weights(EncodeParams()) == wanted


def test_a_long_prompt_is_cut_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    stage = loaded(max_sequence_length=40, redux=False)
    with caplog.at_level(logging.WARNING):
        tokens, _ = run(stage, prompt="x" * 100, side=None)
    assert tokens.shape == (40, TEXT_DIM)
    assert "cut at 40" in caplog.text


# --- CLIP's part of a LoRA ------------------------------------------------------------------------


def pooled_with_adapter(models: Path, scale: float) -> np.ndarray:
    """The pooled embedding with `clip_lora_tensors` beside CLIP's layers, by peft."""
    clip = CLIPTextModel.from_pretrained(models / "flux1-dev-text" / "text_encoder")
    names = [name for name, layer in clip.named_modules() if isinstance(layer, torch.nn.Linear)]
    config = LoraConfig(r=4, lora_alpha=scale * ALPHA, target_modules=names)
    clip = inject_adapter_in_model(config, clip)
    tensors = clip_lora_tensors()
    for name in names:
        key = f"lora_te1_text_model_{name.removeprefix('text_model.').replace('.', '_')}"
        layer = clip.get_submodule(name)
        layer.lora_A["default"].weight.data = tensors[f"{key}.lora_down.weight"]
        layer.lora_B["default"].weight.data = tensors[f"{key}.lora_up.weight"]
    tokenizer = CLIPTokenizer.from_pretrained(models / "flux1-dev-text" / "tokenizer")
    ids = tokenizer(BUNDLE_PROMPT, padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        pooled: np.ndarray = clip(ids.input_ids).pooler_output[0].numpy()
    return pooled


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_clips_part_of_a_lora_is_applied_as_peft_applies_it(models: Path, scale: float) -> None:
    _, plain = run(loaded(redux=False), side=None)
    _, found = run(loaded(redux=False, lora="kiss3dgen-lora", lora_scale=scale), side=None)
    wanted = pooled_with_adapter(models, scale)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(found - plain).max() > 0.01 * np.abs(plain).max()


def test_clips_parts_of_several_loras_add_up(models: Path, tmp_path: Path) -> None:
    halves = {
        key: tensor * (0.5 if "lora_up" in key else 1.0)
        for key, tensor in clip_lora_tensors().items()
    }
    save_file(halves, tmp_path / "half.safetensors")
    more = ({"weights": str(tmp_path / "half.safetensors")},) * 2
    _, twice = run(loaded(redux=False, loras=more), side=None)
    _, once = run(loaded(redux=False, lora="kiss3dgen-lora"), side=None)
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_a_part_for_clip_that_was_never_trained_changes_nothing(
    models: Path, tmp_path: Path
) -> None:
    zeros = {
        key: torch.zeros_like(tensor) if "lora_up" in key else tensor
        for key, tensor in clip_lora_tensors().items()
    }
    save_file(zeros, tmp_path / "zero.safetensors")
    _, plain = run(loaded(redux=False), side=None)
    _, found = run(loaded(redux=False, lora=str(tmp_path / "zero.safetensors")), side=None)
    assert np.array_equal(found, plain)


def test_a_lora_for_another_clip_is_refused(models: Path, tmp_path: Path) -> None:
    for name, words in (
        ("lora_te1_text_model_encoder_layers_7_mlp_fc1", "no layer encoder_layers_7_mlp_fc1"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", r"\(3072, 768\)"),
    ):
        pair = {"lora_down": torch.ones(4, 768), "lora_up": torch.ones(3072, 4)}
        tensors = {f"{name}.{half}.weight": tensor for half, tensor in pair.items()}
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(StageError, match=words) as caught:
            loaded(redux=False, lora=str(tmp_path / "other.safetensors"))
        assert caught.value.kind == "missing_weights"


# --- where the weights are ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streamed_and_resident_give_the_same_bits(dtype: str) -> None:
    streamed = run(loaded(dtype, placement="streamed"))
    resident = run(loaded(dtype, placement="resident"))
    for one, other in zip(streamed, resident, strict=True):
        assert np.array_equal(one, other)


def test_bfloat16_is_close_to_float32_and_leaves_as_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "has_native_bfloat16", lambda: True)  # emulated, on most CPUs
    exact, _ = run(loaded("float32"))
    rounded, _ = run(loaded("bfloat16"))
    assert rounded.dtype == np.float32
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.03


def test_one_block_at_a_time_is_converted() -> None:
    """float32 on disk, bfloat16 wanted: every block but the computing one stays as it is."""
    text = T5Text(find("flux1-dev-text"), CPU, torch.bfloat16)
    text.visit_by_block()
    blocks = list(text.model.encoder.block)
    converted: list[list[int]] = []

    def look(*_: Any) -> None:
        dtypes = [{p.dtype for p in block.parameters()} for block in blocks]
        converted.append([i for i, found in enumerate(dtypes) if torch.bfloat16 in found])

    for block in blocks:
        block.layer[0].register_forward_pre_hook(look)
    with torch.inference_mode():
        text.tokens("a vase", 16)
    assert converted == [[0], [1], [2]]
    assert all(p.dtype == torch.float32 for block in blocks for p in block.parameters())


@pytest.mark.parametrize("budgets", [(10**9, 0), (80_000, 10**9), (80_000, 120_000)])
def test_a_t5_that_streams_as_to_a_card_gives_the_same_bits(budgets: tuple[int, int]) -> None:
    resident, streamed = (T5Text(find("flux1-dev-text"), CPU, torch.bfloat16) for _ in range(2))
    resident.keep_on_device()
    streamed.stream(*budgets)
    with torch.inference_mode():
        for prompt in ("a vase", "a lamp", "a vase"):
            assert torch.equal(streamed.tokens(prompt, 16), resident.tokens(prompt, 16))
            assert all(p.is_meta for p in streamed.model.encoder.block.parameters())
    streamed.close()


def test_streaming_keeps_to_three_gigabytes_and_to_smaller_budgets() -> None:
    weights, host = streaming_budget(Context("cuda:0"), torch.bfloat16)
    assert weights + ACTIVATION_BYTES + CONTEXT_BYTES <= 3e9
    small = Context("cuda:0", vram_bytes=5 << 29, host_bytes=1 << 30)
    weights, host = streaming_budget(small, torch.bfloat16)
    assert weights + ACTIVATION_BYTES + CONTEXT_BYTES == 5 << 29
    assert host == 1 << 30


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_weights_stay_mapped_from_their_files() -> None:
    stage = loaded(dtype="bfloat16")
    run(stage)
    assert stage.t5 is not None
    assert stage.redux is not None
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    files = [
        (*(int(edge, 16) for edge in fields[0].split("-")), fields[5])
        for fields in maps
        if len(fields) > 5 and fields[5].endswith(".safetensors")
    ]
    for module in (stage.t5.model.encoder.block, stage.redux.encoder, stage.redux.embedder):
        for parameter in module.parameters():
            address = parameter.data_ptr()
            assert any(low <= address < high for low, high, _ in files)


def test_a_module_whose_forward_fails_gets_its_weights_back() -> None:
    class Fails(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.weight.dtype == torch.bfloat16
            raise RuntimeError("no")

    module = Fails(2, 2)
    home = module.weight.data_ptr()
    visit_in_turn([module], torch.device("cpu"), torch.bfloat16)
    with pytest.raises(RuntimeError, match="no"):
        module(torch.zeros(2))
    assert module.weight.data_ptr() == home
    assert module.weight.dtype == torch.float32


# --- through the core, and what it refuses --------------------------------------------------------


def test_many_jobs_share_one_load(tmp_path: Path) -> None:
    core = StageRunner("encode", inline_max_bytes=1 << 20)
    core.load({"max_sequence_length": 128}, Context(threads=1))
    found = []
    for index, prompt in enumerate(["a vase", "a lamp", "a vase"]):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "prompt.txt").write_text(prompt)
        np.save(folder / "image.npy", picture(64))
        inputs = {"prompt": [folder / "prompt.txt"], "image": [folder / "image.npy"]}
        result = core.run(inputs, folder, folder, 42, lambda *_: None)
        content = result.outputs["prompt_embeds"][0].content
        assert content is not None
        (folder / "out.npy").write_bytes(content)
        found.append(codec.read(core.output_spec("prompt_embeds"), [folder / "out.npy"]))
    core.close()
    assert found[0].shape == (128 + IMAGE_TOKENS, TEXT_DIM)
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_redux_without_a_picture_is_bad_input() -> None:
    with pytest.raises(BadInput, match="Redux needs the picture") as caught:
        run(loaded(), side=None)
    assert "redux=false" in caught.value.hint


def test_float16_is_refused() -> None:
    with pytest.raises(StageError, match="float16") as caught:
        loaded("float16")
    assert "bfloat16" in caught.value.hint


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    monkeypatch.setattr(
        "stages.weights.catalogue.hub_snapshot", lambda model: tmp_path / "no-cache"
    )
    with pytest.raises(StageError, match="flux1-dev-text") as caught:
        loaded()
    assert caught.value.kind == "missing_weights"


def test_embeddings_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    folder = build_redux(tmp_path)
    file = folder / "image_embedder" / "diffusion_pytorch_model.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    tensors["redux_down.bias"][0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(StageError, match="NaN") as caught:
        run(loaded(redux_weights=str(folder)))
    assert caught.value.kind == "internal"
    assert caught.value.hint


def test_every_param_is_described() -> None:
    assert all(field.description for field in EncodeParams.model_fields.values())
