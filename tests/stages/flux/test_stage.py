"""The flux stage on tiny checkpoints: placements, storage, seeds, controls, and its own process."""

from __future__ import annotations

import itertools
import json
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from devtools.tiny import flux as tiny
from devtools.tiny.flux_jobs import SMALL, context, job_inputs, run
from stages.flux.params import ControlParams, FluxParams
from stages.flux.stage import Flux
from stages.process.stage_runner import StageRunner


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.build_all(folder)
    tiny.build_gguf(folder)
    return folder


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


@pytest.fixture(scope="module")
def usual(built: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KISS3D_MODELS", str(built))
        return run(inputs)


@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_loading_warns_of_nothing_that_diffusers_will_drop(placement: str) -> None:
    stage = Flux(FluxParams(**SMALL, placement=placement))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        stage.load(context())
    stage.close()


def test_noise_of_the_device_is_the_same_on_the_cpu(
    inputs: dict[str, np.ndarray], usual: np.ndarray
) -> None:
    np.testing.assert_array_equal(run(inputs, noise="device"), usual)


@pytest.mark.parametrize("name", ["flux1-dev-fp8", "flux1-dev-gguf-q8"])
def test_small_files_can_visit_the_device(inputs: dict[str, np.ndarray], name: str) -> None:
    settings: dict[str, Any] = {"transformer": name, "storage": "file", "steps": 2}
    usual = run(inputs, **settings)
    np.testing.assert_array_equal(run(inputs, **settings, placement="model"), usual)


def test_where_the_weights_are_changes_nothing(
    inputs: dict[str, np.ndarray], usual: np.ndarray
) -> None:
    np.testing.assert_array_equal(run(inputs, placement="model"), usual)


@pytest.mark.parametrize("placement", ["resident", "model"])
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


# Strength 0.75 of 4 steps: 5 evaluations, of which (i + 1) / 5 <= 0.65 holds for 3; or 3 and 1.
@pytest.mark.parametrize(("sampler", "with_it", "without"), [("heun", 3, 2), ("heun_pec", 1, 2)])
def test_the_controlnet_is_evaluated_only_while_it_acts(
    inputs: dict[str, np.ndarray], sampler: str, with_it: int, without: int
) -> None:
    stage = Flux(FluxParams(**SMALL, sampler=sampler))
    stage.load(context())
    assert stage.engine is not None
    calls: list[str] = []
    for name in ("controlnet", "transformer"):
        net = getattr(stage.engine.nets, name)
        net.register_forward_hook(lambda *_, name=name: calls.append(name))
    stage.run(inputs, context())
    assert calls == ["controlnet", "transformer"] * with_it + ["transformer"] * without


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


def test_tiles_are_for_decoding_alone(inputs: dict[str, np.ndarray], usual: np.ndarray) -> None:
    tiled = run(inputs, vae_tiling=True)
    assert not np.array_equal(tiled, usual)
    stage = Flux(FluxParams(**SMALL, vae_tiling=True))
    stage.load(context())
    for _ in range(2):  # decoding in tiles does not make the next job's encoding do so
        np.testing.assert_array_equal(stage.run(inputs, context())["bundle"], tiled)


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
    core = StageRunner("flux", inline_max_bytes=0)
    core.load(SMALL, context())
    files = write_inputs(inputs, tmp_path)
    for _ in range(2):
        result = core.run(files, tmp_path, tmp_path, 42, lambda *_, **__: None)
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
    # 2e-6 apart: with two threads, torch adds up in another order. Other inputs: over 1e-3.
    np.testing.assert_allclose(np.load(tmp_path / "out" / "bundle.npy"), usual, atol=1e-4)
