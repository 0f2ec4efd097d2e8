"""The preprocess stage: cutting out, clean rims, centring, and what it refuses."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from devtools.pictures import compose, cutout, disc, file_of, grid, on_white, ring, shaded
from stages.contract import BadInput, Context
from stages.preprocess.segment import segment
from stages.preprocess.stage import Preprocess, PreprocessParams

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """background=auto must not find this machine's own weights."""
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


def run(data: bytes, seed: int = 42, **params: Any) -> tuple[np.ndarray, np.ndarray]:
    """Image (S, S, 3) and alpha (S, S)."""
    stage = Preprocess(PreprocessParams(**params))
    outputs = stage.run({"input_image": data}, Context(seed=seed))
    assert set(outputs) == {"image", "alpha"}
    for spec in stage.outputs:
        if spec.name in outputs:
            spec.check(outputs[spec.name])
    return outputs["image"], outputs["alpha"][..., 0]


def found_in_place(picture: Image.Image) -> np.ndarray:
    """What `segment` takes for the object, (H, W) bool at the picture's size."""
    rgb = np.asarray(picture.convert("RGB"))
    result = segment(rgb)
    assert result.mask.shape == rgb.shape[:2]
    return result.mask


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return float((found & truth).sum() / (found | truth).sum())


def extent(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the object."""
    rows = np.flatnonzero((alpha > 12).any(axis=1))
    columns = np.flatnonzero((alpha > 12).any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def backdrop(kind: str, side: int) -> np.ndarray:
    """(side, side, 3) in [0, 255]."""
    x, y = grid(side)
    rng = np.random.default_rng(3)
    flat = np.full((side, side, 3), 255.0)
    if kind == "grey":
        return flat * 0.5
    if kind == "noisy white":
        return flat - np.abs(rng.normal(0, 2.5, flat.shape))
    if kind == "gradient":
        return flat - (30 + 20 * y)[..., None] * np.array([1.0, 0.9, 0.7])
    if kind == "vignette":
        return flat * (0.85 - 0.2 * (x * x + y * y))[..., None] + rng.normal(0, 1, flat.shape)
    return flat


# --- telling the object apart ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["white", "grey", "noisy white", "gradient", "vignette"])
def test_an_object_on_a_plain_backdrop_is_found_with_its_hole(kind: str) -> None:
    truth = ring(240)
    found = found_in_place(compose(truth, shaded(240), backdrop(kind, 240)))
    assert overlap(found, truth > 0.5) > 0.96
    assert not found[115:125, 115:125].any()


def test_a_jpeg_is_found_as_well_as_a_png() -> None:
    truth = ring(240)
    image, alpha = run(file_of(on_white(truth), "JPEG", quality=80))
    assert image.shape == (512, 512, 3)
    assert alpha[256, 256] == 0
    assert (alpha > 127).mean() == pytest.approx(0.85**2 * np.pi / 4 * (1 - 1 / 9), rel=0.04)


def test_a_soft_shadow_is_not_part_of_the_object() -> None:
    side = 300
    x, y = grid(side)
    darkness = 0.45 * np.exp(-(((x - 0.15) / 0.5) ** 2 + ((y - 0.5) / 0.12) ** 2) * 2)
    ground = np.full((side, side, 3), 245.0) * (1 - darkness)[..., None]
    truth = disc(side, 0.45)
    found = found_in_place(compose(truth, shaded(side), ground))
    assert overlap(found, truth > 0.5) > 0.95


def test_thin_parts_survive() -> None:
    side = 300
    x, y = grid(side)
    stick = (np.abs(x) < 0.008) & (np.abs(y) < 0.8)
    found = found_in_place(on_white(np.maximum(disc(side, 0.3), stick)))
    assert found[:, 148:152].any(axis=1)[40:260].all()


def test_a_grey_object_is_not_taken_for_a_shadow() -> None:
    truth = disc(240, 0.6)
    grey = np.full((240, 240, 3), 150.0)
    assert overlap(found_in_place(compose(truth, grey, backdrop("white", 240))), truth > 0.5) > 0.96


def test_an_object_that_reaches_over_the_edge_is_found() -> None:
    truth = disc(240, 0.5, cy=0.75)
    found = found_in_place(on_white(truth))
    assert overlap(found, truth > 0.5) > 0.96


def test_dust_goes_and_a_second_object_stays() -> None:
    both = np.maximum(disc(300, 0.3, cx=-0.4), disc(300, 0.25, cx=0.5))
    truth = both > 0.5
    dusty = np.maximum(both, disc(300, 0.015, cx=0.9, cy=0.9))
    found = found_in_place(on_white(dusty))
    assert overlap(found, truth) > 0.95
    assert not found[270:, 270:].any()


def test_a_small_object_in_a_large_picture_is_looked_at_closely() -> None:
    truth = ring(200)
    large = np.zeros((1100, 1100))
    large[300:500, 800:1000] = truth
    result = segment(np.asarray(on_white(large)))
    assert result.region.width < 300
    _, alpha = run(file_of(on_white(large)))
    assert alpha[256, 256] == 0
    assert alpha[256, 70] > 200


@pytest.mark.parametrize("seed", [0, 5])
def test_an_object_on_a_texture_is_found_and_the_same_every_time(seed: int) -> None:
    side = 200
    rng = np.random.default_rng(4)
    texture = np.repeat(np.repeat(rng.uniform(40, 220, (50, 50)), 4, 0), 4, 1)
    ground = texture[..., None] * np.array([0.35, 0.8, 0.4])
    truth = disc(side, 0.5)
    data = file_of(compose(truth, shaded(side), ground))
    first, again = run(data, seed), run(data, seed)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert (first[1] > 127).mean() == pytest.approx(0.85**2 * np.pi / 4, rel=0.12)


def test_the_committed_mug_is_cut_out_with_the_hole_in_its_handle() -> None:
    image, alpha = run((EXAMPLES / "mug.png").read_bytes())
    top, bottom, left, right = extent(alpha)
    handle = alpha[top : (top + bottom) // 2, left + int(0.85 * (right - left)) :]
    assert (handle < 12).mean() > 0.3
    assert (image[alpha == 0] == 255).all()


# --- alpha ----------------------------------------------------------------------------------------


def test_alpha_is_used_as_it_is() -> None:
    truth = ring(400)
    image, alpha = run(file_of(cutout(truth)))
    rows = np.flatnonzero((truth > 0.05).any(axis=1))
    side = max(512, round((rows[-1] - rows[0] + 1) / 0.85))
    assert alpha.shape == (side, side)
    assert (alpha > 127).mean() == pytest.approx(0.85**2 * np.pi / 4 * (1 - 1 / 9), rel=0.02)
    assert (image[alpha == 0] == 255).all()


def test_colours_under_transparent_pixels_never_show() -> None:
    image, alpha = run(file_of(cutout(disc(300))))
    assert image[alpha > 0].min(axis=0)[0] > 100  # red of the darkest orange; black is hidden


def test_stray_specks_of_alpha_do_not_move_the_object() -> None:
    specks = disc(400, 0.4)
    clean_image, _ = run(file_of(cutout(specks)))
    specks[5:8, 5:8] = 1.0
    image, alpha = run(file_of(cutout(specks)))
    assert abs(len(image) - len(clean_image)) <= 2
    top, bottom, left, right = extent(alpha)
    assert abs((bottom - top + 1) / len(alpha) - 0.85) < 0.02
    assert abs((right - left + 1) / len(alpha) - 0.85) < 0.02


def test_nearly_opaque_alpha_is_no_cutout() -> None:
    rgba = np.asarray(on_white(disc(300)).convert("RGBA")).copy()
    rgba[:3, :3, 3] = 0  # a screenshot's round corner
    _, alpha = run(file_of(Image.fromarray(rgba)))
    assert (alpha > 127).mean() == pytest.approx(0.85**2 * np.pi / 4, rel=0.04)


def test_grabcut_can_be_asked_for_despite_alpha() -> None:
    truth = ring(240)
    rgba = np.asarray(on_white(truth).convert("RGBA")).copy()
    rgba[:60, :, 3] = 0
    _, alpha = run(file_of(Image.fromarray(rgba)), background="grabcut")
    assert alpha[256, 256] == 0


def test_none_takes_the_whole_picture() -> None:
    image, alpha = run(file_of(on_white(disc(600))), background="none", foreground_ratio=1.0)
    assert image.shape == (600, 600, 3)
    assert (alpha == 255).all()


# --- rims -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [(255, 255, 255), (20, 20, 20), (40, 90, 220)])
def test_the_rim_keeps_nothing_of_the_background(back: tuple[int, int, int]) -> None:
    orange = np.array([230.0, 120.0, 30.0])
    truth = disc(600, 0.8)
    front = np.broadcast_to(orange, (600, 600, 3))
    image, alpha = run(file_of(compose(truth, front, np.broadcast_to(back, (600, 600, 3)))))
    a = alpha[..., None] / 255.0
    expected = a * orange + 255.0 * (1.0 - a)
    off = np.abs(image - expected).max(axis=2)
    assert off.max() < 26
    assert off[alpha < 250].mean() < 2


def test_defringe_cleans_a_cutout_that_holds_its_old_background() -> None:
    truth = disc(600, 0.8)
    orange = np.broadcast_to(np.array([230.0, 120.0, 30.0]), (600, 600, 3))
    dirty = np.asarray(compose(truth, orange, np.zeros((600, 600, 3))))
    rgba = np.concatenate([dirty, np.rint(truth * 255).astype(np.uint8)[..., None]], axis=-1)
    data = file_of(Image.fromarray(rgba))

    def error(defringe: bool) -> float:
        image, alpha = run(data, defringe=defringe)
        a = alpha[..., None] / 255.0
        off = np.abs(image - (a * orange[0, 0] + 255.0 * (1.0 - a)))
        return float(off[(alpha > 20) & (alpha < 235)].mean())

    assert error(True) < 0.6 * error(False)


# --- framing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [on_white, cutout])
@pytest.mark.parametrize("centre", [(-0.5, 0.4), (0.3, -0.6)])
def test_the_object_is_centred_at_85_percent(make: Any, centre: tuple[float, float]) -> None:
    image, alpha = run(file_of(make(disc(700, 0.3, *centre))))
    side = len(image)
    top, bottom, left, right = extent(alpha)
    assert max(bottom - top + 1, right - left + 1) / side == pytest.approx(0.85, abs=0.012)
    # An odd number of free pixels leaves one over, and a faint rim may count on one side only.
    assert abs(top - (side - 1 - bottom)) <= 2
    assert abs(left - (side - 1 - right)) <= 2
    assert (image[0] == 255).all()


def test_foreground_ratio_is_kept() -> None:
    _, alpha = run(file_of(cutout(disc(700, 0.6))), foreground_ratio=0.6)
    top, bottom, _, _ = extent(alpha)
    assert (bottom - top + 1) / len(alpha) == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [(100, 1024, 512), (900, 1024, 900), (1300, 1024, 1024), (1300, 1200, 1200), (900, 256, 256)],
)
def test_the_resolution_is_kept_within_bounds(side: int, size: int, expected: int) -> None:
    image, _ = run(file_of(cutout(disc(side, 0.85))), size=size)
    assert len(image) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("shape", [(80, 400), (400, 80), (401, 97)])
def test_any_aspect_ratio_becomes_a_square(shape: tuple[int, int]) -> None:
    alpha = np.zeros(shape)
    alpha[8:-8, 8:-8] = 1.0
    rgb = np.full((*shape, 3), 90.0)
    rgba = np.concatenate([rgb, alpha[..., None] * 255], axis=-1).astype(np.uint8)
    _, found = run(file_of(Image.fromarray(rgba)))
    top, bottom, left, right = extent(found)
    assert max(bottom - top, right - left) / len(found) == pytest.approx(0.85, abs=0.015)


# --- what it refuses, and its contract ------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "params", "words"),
    [
        (Image.new("RGB", (200, 200), "white"), {}, "foreground"),
        (Image.new("L", (200, 200), 90), {}, "foreground"),
        (Image.new("RGBA", (200, 200), (255, 0, 0, 0)), {}, "fully transparent"),
        (Image.new("RGBA", (200, 200), (255, 0, 0, 5)), {"background": "none"}, "transparent"),
        (Image.new("RGB", (200, 200), "red"), {"background": "alpha"}, "no transparency"),
    ],
)
def test_a_picture_without_an_object_is_bad_input(
    picture: Image.Image, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        run(file_of(picture), **params)
    assert caught.value.hint


@pytest.mark.parametrize("size", [(16, 16), (16, 700), (17, 16)])
@pytest.mark.parametrize("background", ["auto", "grabcut", "none"])
@pytest.mark.parametrize("framing", ["centered", "reference"])
def test_the_smallest_pictures_pass_or_are_refused(
    size: tuple[int, int], background: str, framing: str
) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    with contextlib.suppress(BadInput):
        run(file_of(Image.fromarray(noise)), background=background, framing=framing)


@pytest.mark.parametrize(
    "params", [{"size": 32}, {"foreground_ratio": 0.0}, {"background": "photoshop"}, {"colour": 1}]
)
def test_params_out_of_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PreprocessParams(**params)


def test_every_param_is_described() -> None:
    assert all(field.description for field in PreprocessParams.model_fields.values())


def test_reading_the_contract_imports_nothing_heavy() -> None:
    code = (
        "import sys, stages.preprocess.stage\n"
        "assert not {'numpy', 'cv2', 'PIL', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=EXAMPLES.parent)


def test_progress_tells_what_was_done() -> None:
    notes: list[tuple[int, int, str]] = []
    gif = file_of(
        on_white(disc(100)), "GIF", save_all=True, append_images=[Image.new("RGB", (100, 100))]
    )
    context = Context(progress=lambda step, total, note="": notes.append((step, total, note)))
    Preprocess(PreprocessParams()).run({"input_image": gif}, context)
    assert [step for step, _, _ in notes] == [0, 1, 2]
    assert "first of 2 frames" in notes[1][2]
