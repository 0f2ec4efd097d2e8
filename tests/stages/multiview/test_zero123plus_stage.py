"""Stage zero123plus on tiny random checkpoints in the published formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from devtools.tiny.zero123plus import build_flexgen, build_zero123plus
from stages.contract import Context, StageError
from stages.multiview.zero123plus.given import put_given
from stages.multiview.zero123plus.params import Zero123PlusParams
from stages.multiview.zero123plus.stage import Zero123PlusStage
from stages.multiview.zero123plus.weights import load_unet
from stages.process.stage_runner import StageRunner

QUICK = {"steps": 2, "view_size": 32}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_zero123plus(folder)
    build_flexgen(folder)
    return folder


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoints are what the catalogue's names lead to."""
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


@pytest.fixture
def own_models(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them that a test may damage."""
    folder = tmp_path / "models"
    shutil.copytree(built, folder)
    monkeypatch.setenv("KISS3D_MODELS", str(folder))
    return folder


def picture(seed: int = 0, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def loaded(context: Context | None = None, **params: Any) -> Zero123PlusStage:
    stage = Zero123PlusStage(Zero123PlusParams(**{**QUICK, **params}))
    stage.load(context or Context())
    return stage


def views(stage: Zero123PlusStage, image: np.ndarray, seed: int = 42) -> np.ndarray:
    outputs = stage.run({"image": image}, Context(seed=seed))
    assert set(outputs) == {"views"}
    stage.outputs[0].check(outputs["views"])
    result: np.ndarray = outputs["views"]
    return result


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of the absolute difference in grey levels."""
    return float(np.abs(a.astype(int) - b).mean())


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a checkpoint or a JSON file in place."""
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
    elif file.suffix == ".ckpt":
        state = torch.load(file, weights_only=True)
        change(state)
        torch.save(state, file)
    else:
        state = load_file(file)
        change(state)
        save_file(state, file, metadata={"format": "pt"})


def constant_ramp(folder: Path, value: float) -> None:
    edit(
        folder / "zero123plus/model_index.json",
        lambda index: index.update(ramping_coefficients=[value] * 7),
    )


# --- one picture in, four views out ---------------------------------------------------------------


def test_it_runs_through_the_core_and_reports_every_step(tmp_path):
    np.save(tmp_path / "image.npy", picture())
    core = StageRunner("zero123plus", inline_max_bytes=0)
    core.load(QUICK, Context())
    told: list[tuple[int, int]] = []
    result = core.run(
        {"image": [tmp_path / "image.npy"]},
        tmp_path,
        tmp_path,
        7,
        lambda step, total, note="": told.append((step, total)),
    )
    core.close()
    (file,) = result.outputs["views"]
    written = np.load(tmp_path / file.temp)
    assert written.shape == (4, 512, 512, 3)
    assert written.std() > 5
    assert told == sorted(told)
    assert {step for step, _ in told} == {0, 1, 2, 3, 4}
    assert {total for _, total in told} == {4}


def test_a_seed_gives_the_same_pixels_and_another_seed_others():
    stage = loaded()
    first = views(stage, picture(), seed=0)
    np.testing.assert_array_equal(views(stage, picture(), seed=0), first)
    np.testing.assert_array_equal(views(loaded(), picture(), seed=0), first)
    assert difference(views(stage, picture(), seed=42), first) > 2.0


def test_the_global_generator_is_neither_used_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = views(loaded(), picture())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(views(loaded(), picture()), first)


def test_a_job_does_not_depend_on_the_jobs_before_it():
    stage = loaded()
    views(stage, picture(1), seed=3)
    np.testing.assert_array_equal(views(stage, picture(2)), views(loaded(), picture(2)))


def test_without_the_ramp_the_picture_speaks_through_reference_attention_alone(own_models):
    constant_ramp(own_models, 0.0)
    stage = loaded()
    first = views(stage, picture(1))
    assert difference(views(stage, picture(2)), first) > 1.0
    edit(
        own_models / "zero123plus/vision_encoder/model.safetensors",
        lambda state: [tensor.neg_() for tensor in state.values()],
    )
    np.testing.assert_array_equal(views(loaded(), picture(1)), first)
    constant_ramp(own_models, 1.0)
    assert difference(views(loaded(), picture(1)), first) > 1.0


def test_guidance_of_one_works_without_the_unconditional_half():
    plain = views(loaded(guidance=1.0), picture())
    assert difference(views(loaded(guidance=4.0), picture()), plain) > 1.0


def test_bfloat16_gives_about_the_pixels_of_float32():
    exact = views(loaded(), picture())
    rounded = views(loaded(Context(dtype="bfloat16")), picture())
    assert 0.0 < difference(rounded, exact) < 10.0


@pytest.mark.parametrize("size", [0, 16, 500, 2048])
def test_a_view_size_that_the_networks_cannot_halve_is_refused(size):
    with pytest.raises(ValidationError):
        Zero123PlusParams(view_size=size)


# --- weights --------------------------------------------------------------------------------------


def test_it_says_which_weights_it_needs(tmp_path):
    assert Zero123PlusStage.weights(Zero123PlusParams()) == ("zero123plus", "flexgen")
    own = Zero123PlusParams(unet=str(tmp_path / "mine.safetensors"))
    assert Zero123PlusStage.weights(own) == ("zero123plus", str(tmp_path / "mine.safetensors"))


def test_the_base_models_own_unet_is_not_read(own_models):
    (own_models / "zero123plus/unet/diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    loaded()


def test_weights_are_cast_and_keep_their_values(built):
    file = built / "flexgen/flexgen.ckpt"
    stored = torch.load(file, weights_only=True)
    unet = load_unet(built / "zero123plus/unet", file, torch.float32)
    assert stored["conv_in.weight"].dtype == torch.float16
    for name, tensor in unet.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].float())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is mapped")
def test_weights_of_the_right_dtype_stay_in_their_file(built):
    file = built / "flexgen/flexgen.ckpt"
    unet = load_unet(built / "zero123plus/unet", file, torch.float16)
    maps = [
        [int(bound, 16) for bound in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(file))
    ]
    for parameter in unet.parameters():
        assert any(low <= parameter.data_ptr() < high for low, high in maps)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("mid_block.attentions.0.proj_in.weight"), "1 missing (mid_block"),
        (lambda state: state.update({"unet.extra": torch.zeros(1)}), "1 surplus (unet.extra)"),
        (lambda state: state.update({"conv_in.bias": torch.zeros(3)}), "1 of another shape (conv_"),
        (lambda state: state.clear(), ", ...)"),
    ],
)
def test_a_unet_that_does_not_fit_names_the_keys(own_models, change, says):
    edit(own_models / "flexgen/flexgen.ckpt", change)
    with pytest.raises(StageError) as caught:
        loaded()
    assert caught.value.kind == "missing_weights"
    assert says in caught.value.message
    assert "flexgen.ckpt" in caught.value.message


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("vae/diffusion_pytorch_model", "decoder.conv_in.bias"),
        ("text_encoder/model", "text_model.final_layer_norm.weight"),
        ("vision_encoder/model", "visual_projection.weight"),
    ],
)
def test_an_incomplete_component_is_not_filled_with_random_numbers(own_models, part, key):
    edit(own_models / f"zero123plus/{part}.safetensors", lambda state: state.pop(key))
    with pytest.raises(StageError, match="1 missing") as caught:
        loaded()
    assert key.removeprefix("text_model.") in caught.value.message


@pytest.mark.parametrize("file", ["flexgen/flexgen.ckpt", "zero123plus/vae/config.json"])
def test_a_truncated_file_is_named(own_models, file):
    path = own_models / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StageError, match="cannot be read") as caught:
        loaded()
    assert caught.value.kind == "missing_weights"
    assert Path(file).parent.name in caught.value.message


@pytest.mark.parametrize(
    ("stem", "pickled"),
    [
        ("vae/diffusion_pytorch_model", "diffusion_pytorch_model.bin"),
        ("text_encoder/model", "pytorch_model.bin"),
        ("vision_encoder/model", "pytorch_model.bin"),
    ],
)
def test_pickled_weights_of_a_component_are_not_read(own_models, stem, pickled):
    file = own_models / f"zero123plus/{stem}.safetensors"
    torch.save(load_file(file), file.with_name(pickled))
    file.unlink()
    with pytest.raises(StageError, match="safetensors") as caught:
        loaded()
    assert caught.value.kind == "missing_weights"


def test_a_ramp_of_another_length_is_refused(own_models):
    edit(
        own_models / "zero123plus/model_index.json",
        lambda index: index.update(ramping_coefficients=[0.1, 0.2]),
    )
    with pytest.raises(StageError, match="2 ramping_coefficients for 7 tokens"):
        loaded()


def test_absent_weights_are_named_with_the_command_that_gets_them(own_models):
    shutil.rmtree(own_models / "flexgen")
    with pytest.raises(StageError, match="flexgen") as caught:
        loaded()
    assert caught.value.kind == "missing_weights"
    assert "models pull flexgen" in caught.value.hint


def test_a_damaged_weight_shows_as_not_finite_at_once(own_models):
    edit(
        own_models / "flexgen/flexgen.ckpt",
        lambda state: state["conv_out.bias"].fill_(float("nan")),
    )
    with pytest.raises(StageError, match="after step 1 of 2") as caught:
        views(loaded(), picture())
    assert caught.value.kind == "internal"


def test_a_vae_that_overflows_is_told_apart(own_models):
    edit(
        own_models / "zero123plus/vae/diffusion_pytorch_model.safetensors",
        lambda state: state["decoder.conv_out.bias"].fill_(float("inf")),
    )
    with pytest.raises(StageError, match="in the VAE"):
        views(loaded(), picture())


def drawn_disc(radius: int, row: int) -> np.ndarray:
    """A tile with a grey disc on white."""
    y, x = np.mgrid[:512, :512]
    inside = np.hypot(x - 255.5, y - row) < radius
    return np.where(inside[..., None], np.uint8(90), np.uint8(255)) * np.ones(3, np.uint8)


def given_layer(high: int, wide: int) -> np.ndarray:
    """(256, 256, 4): a red box in the middle."""
    layer = np.full((256, 256, 4), 255, np.uint8)
    layer[..., 3] = 0
    rows = slice(128 - high // 2, 128 + high // 2)
    layer[rows, 128 - wide // 2 : 128 + wide // 2] = (200, 30, 30, 255)
    return layer


def test_a_given_side_takes_its_tiles_place_at_the_scale_of_the_drawn_front() -> None:
    tiles = np.stack([drawn_disc(radius, row) for radius, row in ((150, 250), (90, 200)) * 2])
    nothing = given_layer(0, 0)
    told: list[str] = []
    made = put_given(tiles, np.stack([nothing, given_layer(100, 60), nothing]), told.append)
    assert np.array_equal(made[[0, 2, 3]], tiles[[0, 2, 3]])
    red = (made[1, ..., 0] > 150) & (made[1, ..., 1] < 100)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert abs(len(rows) - 300) <= 3
    assert abs(len(columns) - 180) <= 3
    assert abs(rows.mean() - 250) <= 2
    assert abs(columns.mean() - 255.5) <= 2
    assert not told


def test_a_given_side_that_is_too_wide_for_its_tile_is_told() -> None:
    tiles = np.stack([drawn_disc(200, 256)] * 4)
    told: list[str] = []
    made = put_given(tiles, np.stack([given_layer(60, 200)] * 3), told.append)
    assert len(set(told)) == 1
    assert (made[1, 256, :5] == 255).all()


def test_the_stage_puts_given_sides_in_and_draws_the_rest_as_ever() -> None:
    stage = loaded()
    drawn = views(stage, picture())
    nothing = given_layer(0, 0)
    given = np.stack([given_layer(100, 60), nothing, nothing])
    outputs = stage.run({"image": picture(), "given_views": given}, Context(seed=42))
    stage.outputs[0].check(outputs["views"])
    made = outputs["views"]
    assert np.array_equal(made[[0, 1, 3]], drawn[[0, 1, 3]])
    assert not np.array_equal(made[2], drawn[2])
