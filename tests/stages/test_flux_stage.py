"""The flux stage on tiny checkpoints: against diffusers' own pipelines, its properties, errors."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet_flux import FluxMultiControlNetModel
from PIL import Image
from plain_diffusers import flux_pipeline
from pydantic import ValidationError
from tiny import flux as tiny

from stages.contract import BadInput, Context, StageError
from stages.core import StageCore
from stages.flux import autoencoder, engine
from stages.flux.controls import control_image
from stages.flux.params import ControlParams, FluxParams
from stages.flux.stage import Flux

SMALL: dict[str, Any] = {
    "transformer": "flux1-dev-transformer",
    "width": 128,
    "height": 64,
    "steps": 4,
    "strength": 0.75,
}
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.build_all(folder)
    return folder


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    coarse = rng.random((8, 16, 3), np.float32)
    return {
        "reference_bundle": np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1),
        "prompt_embeds": rng.standard_normal((7, tiny.TEXT)).astype(np.float32),
        "pooled_embeds": rng.standard_normal(tiny.POOLED).astype(np.float32),
    }


def context(**fields: Any) -> Context:
    """One thread: the tensors are too small for more."""
    return Context(threads=1, **fields)


def run(inputs: dict[str, np.ndarray], within: Context | None = None, **params: Any) -> np.ndarray:
    within = within or context()
    stage = Flux(FluxParams(**{**SMALL, **params}))
    stage.load(within)
    bundle = stage.run(inputs, within)["bundle"]
    stage.outputs[0].check(bundle)
    return bundle


# --- the same as diffusers ------------------------------------------------------------------------


def call_plain(pipe: Any, inputs: dict[str, np.ndarray], seed: int = 42, **more: Any) -> np.ndarray:
    return pipe(
        image=torch.from_numpy(inputs["reference_bundle"]).permute(2, 0, 1)[None],
        prompt_embeds=torch.from_numpy(inputs["prompt_embeds"])[None],
        pooled_prompt_embeds=torch.from_numpy(inputs["pooled_embeds"])[None],
        height=64,
        width=128,
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=3.5,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **more,
    ).images[0]


@pytest.fixture
def diffusers_lora(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models again, with the LoRA under the keys that diffusers takes at any width."""
    for folder in models.iterdir():
        if folder.name != "kiss3dgen-lora":
            (tmp_path / folder.name).symlink_to(folder)
    tiny.build_lora(tmp_path, "diffusers")
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("modes", [["tile"], ["tile", "gray", "blur"]])
def test_it_equals_the_controlnet_pipeline(
    inputs: dict[str, np.ndarray],
    diffusers_lora: Path,
    monkeypatch: pytest.MonkeyPatch,
    modes: list[str],
) -> None:
    ends, scales = [0.65, 0.4, 1.0][: len(modes)], [0.6, 0.3, 0.9][: len(modes)]
    controls = [
        ControlParams(mode=mode, end=end, scale=scale)  # type: ignore[arg-type]
        for mode, end, scale in zip(modes, ends, scales, strict=True)
    ]
    found = run(inputs, controlnet=controls)
    net = diffusers.FluxControlNetModel.from_pretrained(diffusers_lora / "flux1-controlnet-union")
    pipe = flux_pipeline(
        "FluxControlNetImg2ImgPipeline",
        diffusers_lora,
        monkeypatch,
        controlnet=FluxMultiControlNetModel([net] * len(modes)),
    )
    numbers = {"tile": 1, "gray": 5, "blur": 3}
    wanted = call_plain(
        pipe,
        inputs,
        control_image=[
            Image.fromarray(control_image(inputs["reference_bundle"], c)) for c in controls
        ],
        control_mode=[numbers[mode] for mode in modes],
        controlnet_conditioning_scale=scales,
        control_guidance_start=[0.0] * len(modes),
        control_guidance_end=ends,
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_it_equals_the_plain_img2img_pipeline(
    inputs: dict[str, np.ndarray], diffusers_lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = flux_pipeline("FluxImg2ImgPipeline", diffusers_lora, monkeypatch)
    found = run(inputs, controlnet=[])
    np.testing.assert_allclose(found, call_plain(pipe, inputs), atol=1e-5)


# --- properties -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def usual(built: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KISS3D_MODELS", str(built))
        return run(inputs)


@pytest.mark.parametrize("placement", ["model", "streamed"])
def test_where_the_weights_are_changes_nothing(
    inputs: dict[str, np.ndarray], usual: np.ndarray, placement: str
) -> None:
    np.testing.assert_array_equal(run(inputs, placement=placement), usual)


@pytest.mark.parametrize("placement", ["resident", "model", "streamed"])
def test_a_second_job_gives_what_it_gives_alone(
    inputs: dict[str, np.ndarray], usual: np.ndarray, placement: str
) -> None:
    stage = Flux(FluxParams(**SMALL, placement=placement))
    stage.load(context())
    other = {**inputs, "reference_bundle": inputs["reference_bundle"][::-1].copy()}
    assert not np.array_equal(stage.run(other, context())["bundle"], usual)
    np.testing.assert_array_equal(stage.run(inputs, context())["bundle"], usual)


def test_fp8_storage_comes_close(inputs: dict[str, np.ndarray], usual: np.ndarray) -> None:
    small = run(inputs, storage="fp8", placement="model")
    assert 0 < np.sqrt(np.mean((small - usual) ** 2)) < 0.02


def test_bfloat16_comes_close_on_the_cpu(inputs: dict[str, np.ndarray], usual: np.ndarray) -> None:
    rounded = run(inputs, context(dtype="bfloat16"))
    assert 0 < np.sqrt(np.mean((rounded - usual) ** 2)) < 0.05


def test_merging_the_lora_changes_the_result_by_rounding_only(
    inputs: dict[str, np.ndarray], usual: np.ndarray
) -> None:
    np.testing.assert_allclose(run(inputs, lora_merge=True), usual, atol=1e-4)
    assert np.abs(run(inputs, lora_scale=0.0) - usual).max() > 0.01


def test_seed_0_is_a_seed(inputs: dict[str, np.ndarray], usual: np.ndarray) -> None:
    zero = run(inputs, context(seed=0))
    assert np.abs(zero - usual).max() > 0.1
    np.testing.assert_array_equal(run(inputs, context(seed=0)), zero)


def test_the_global_generator_plays_no_part(
    inputs: dict[str, np.ndarray], usual: np.ndarray
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(run(inputs), usual)
    assert torch.equal(torch.get_rng_state(), before)


def test_strength_1_needs_no_reference_bundle(inputs: dict[str, np.ndarray]) -> None:
    with_it = run(inputs, strength=1.0, controlnet=[])
    text = {name: value for name, value in inputs.items() if name != "reference_bundle"}
    np.testing.assert_array_equal(run(text, controlnet=[]), with_it)


def test_a_controlnet_of_scale_0_is_one_that_is_left_out_of_every_evaluation(
    inputs: dict[str, np.ndarray],
) -> None:
    """(i + 1) / n <= end is true for no i when end is below 1 / n."""
    never = [ControlParams(end=0.01)]
    zero = [ControlParams(scale=0.0)]
    np.testing.assert_array_equal(run(inputs, controlnet=never), run(inputs, controlnet=zero))


def test_the_controlnet_is_evaluated_only_while_it_acts(inputs: dict[str, np.ndarray]) -> None:
    stage = Flux(FluxParams(**SMALL))
    stage.load(context())
    calls: list[str] = []
    for name in ("_controlnet", "_transformer"):
        net = getattr(stage._engine, name)
        net.register_forward_hook(lambda *_, name=name: calls.append(name))
    stage.run(inputs, context())
    # Strength 0.75 of 4 steps: 5 evaluations, of which (i + 1) / 5 <= 0.65 holds for 3.
    assert calls == ["_controlnet", "_transformer"] * 3 + ["_transformer"] * 2


def test_a_bundle_of_another_size_is_resized_and_said_so(inputs: dict[str, np.ndarray]) -> None:
    notes: list[tuple[int, int, str]] = []
    told = context(progress=lambda step, total, note="": notes.append((step, total, note)))
    bundle = run(inputs, told, width=192, height=96)
    assert bundle.shape == (96, 192, 3)
    assert "128 x 64 resized to 192 x 96" in notes[0][2]


def test_progress_names_every_step(inputs: dict[str, np.ndarray]) -> None:
    notes: list[tuple[int, int, str]] = []
    told = context(progress=lambda step, total, note="": notes.append((step, total, note)))
    run(inputs, told)
    assert [note for _, _, note in notes] == [
        "encode",
        "step 1/3",
        "step 2/3",
        "step 3/3",
        "decode",
        "",
    ]
    assert [step for step, _, _ in notes] == [0, 1, 2, 3, 4, 5]
    assert {total for _, total, _ in notes} == {5}


def test_tiles_are_used_when_memory_is_short(
    inputs: dict[str, np.ndarray], usual: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled = run(inputs, vae_tiling="on")
    assert not np.array_equal(tiled, usual)
    np.testing.assert_array_equal(run(inputs, vae_tiling="off"), usual)
    monkeypatch.setattr(autoencoder.Autoencoder, "_free_bytes", lambda self: 1 << 20)
    np.testing.assert_array_equal(run(inputs), tiled)


def test_depth_and_pose_take_pictures_that_are_given(inputs: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(8)
    given = {
        f"control_{mode}": rng.integers(0, 256, (64, 128, 3), np.uint8)
        for mode in ("depth", "pose")
    }
    results = [
        run({**inputs, **given}, controlnet=[ControlParams(mode=mode, end=1.0)])  # type: ignore[arg-type]
        for mode in ("tile", "depth", "pose", "canny", "lq")
    ]
    for one, other in itertools.combinations(results, 2):
        assert np.abs(one - other).max() > 1e-3


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["depth", "pose"])
def test_a_missing_control_image_is_bad_input(inputs: dict[str, np.ndarray], mode: str) -> None:
    with pytest.raises(BadInput, match=f"control_{mode}") as caught:
        run(inputs, controlnet=[{"mode": mode}])
    assert caught.value.hint


def test_text_mode_with_a_control_of_the_bundle_is_bad_input(inputs: dict[str, np.ndarray]) -> None:
    text = {name: value for name, value in inputs.items() if name != "reference_bundle"}
    with pytest.raises(BadInput, match="needs a reference bundle") as caught:
        run(text)
    assert "controlnet: []" in caught.value.hint


@pytest.mark.parametrize("name", ["prompt_embeds", "pooled_embeds"])
def test_embeddings_of_another_model_are_bad_input(
    inputs: dict[str, np.ndarray], name: str
) -> None:
    with pytest.raises(BadInput, match=f"{name} are 16 wide.*takes 32"):
        run({**inputs, name: inputs[name][..., :16]})


def test_nan_ends_the_run_at_the_step_that_gave_it(inputs: dict[str, np.ndarray]) -> None:
    stage = Flux(FluxParams(**SMALL))
    stage.load(context())
    stage._engine._transformer.proj_out.bias.data = torch.full((16,), torch.nan)
    with pytest.raises(StageError, match="step 1 of 3") as caught:
        stage.run(inputs, context())
    assert (caught.value.kind, "bfloat16" in caught.value.hint) == ("internal", True)


@pytest.mark.parametrize(("value", "words"), [(0.0, "flat"), (np.nan, "NaN")])
def test_a_picture_of_nothing_is_an_error(value: float, words: str) -> None:
    with pytest.raises(StageError, match=words) as caught:
        engine.check_picture(np.full((8, 16, 3), value, np.float32))
    assert caught.value.kind == "internal"


@pytest.mark.parametrize(
    "params",
    [
        {"width": 1024, "height": 1024},
        {"width": 2000, "height": 1000},
        {"strength": 0.0},
        {"controlnet": [{"mode": "tile", "start": 0.5, "end": 0.5}]},
        {"controlnet": [{"mode": "blur", "kernel_size": 10}]},
        {"controlnet": [{"mode": "normal"}]},
        {"storage": "nf4", "placement": "model"},
    ],
)
def test_params_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FluxParams(**params)


def test_the_defaults_are_the_references() -> None:
    params = FluxParams()
    assert (params.width, params.height, params.steps) == (2048, 1024, 20)
    assert (params.guidance_scale, params.strength, params.lora_scale) == (3.5, 0.95, 1.0)
    (control,) = params.controlnet
    assert (control.mode, control.scale, control.start, control.end) == ("tile", 0.6, 0.0, 0.65)


def test_every_param_is_described() -> None:
    for model in (FluxParams, ControlParams):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, {"flux1-dev-fp8", "flux1-dev-vae", "flux1-controlnet-union", "kiss3dgen-lora"}),
        ({"controlnet": []}, {"flux1-dev-fp8", "flux1-dev-vae", "kiss3dgen-lora"}),
        ({"controlnet": [{"scale": 0}], "lora_scale": 0}, {"flux1-dev-fp8", "flux1-dev-vae"}),
        (
            {"transformer": "flux1-dev-gguf-q8", "lora": "", "controlnet": []},
            {"flux1-dev-gguf-q8", "flux1-dev-vae"},
        ),
    ],
)
def test_it_asks_for_the_weights_that_it_loads_and_no_others(
    params: dict[str, Any], names: set[str]
) -> None:
    assert set(Flux.weights(FluxParams(**params))) == names


def test_missing_weights_are_named(
    inputs: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StageError, match="kiss3dgen-lora") as caught:
        run(inputs)
    assert caught.value.kind == "missing_weights"


def test_reading_the_contract_imports_nothing_heavy() -> None:
    code = (
        "import sys, stages.flux.stage\n"
        "assert not {'numpy', 'cv2', 'torch', 'diffusers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- behind files and in a process ----------------------------------------------------------------


def write_inputs(inputs: dict[str, np.ndarray], folder: Path) -> dict[str, list[Path]]:
    files = {}
    for name, value in inputs.items():
        np.save(folder / f"{name}.npy", value)
        files[name] = [folder / f"{name}.npy"]
    return files


def test_stage_core_serves_two_jobs_after_one_load(
    inputs: dict[str, np.ndarray], usual: np.ndarray, tmp_path: Path
) -> None:
    core = StageCore("flux", inline_max_bytes=0)
    core.load(SMALL, context())
    files = write_inputs(inputs, tmp_path)
    for _ in range(2):
        result = core.run(files, tmp_path, tmp_path, lambda *_, **__: None)
        (written,) = result.outputs["bundle"]
        np.testing.assert_array_equal(np.load(tmp_path / written.temp), usual)
    core.close()


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same_bundle(
    inputs: dict[str, np.ndarray],
    usual: np.ndarray,
    tmp_path: Path,
    kiss3d: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    files = write_inputs(inputs, tmp_path)
    arguments = [
        *(part for name, (path,) in files.items() for part in ("--input", f"{name}={path}")),
        *(part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")),
    ]
    done = kiss3d("stage", "flux", *arguments, "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "out" / "bundle.npy") in json.loads(done.stdout)["outputs"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "bundle.npy"), usual)
