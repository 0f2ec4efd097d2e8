"""The network that comes with the program: what it cuts out, and when it is not believed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from devtools.pictures import compose, disc, file_of, grid, on_white, ring, shaded
from stages.contract import BadInput, Context, StageError
from stages.models import sketch_net
from stages.preprocess.guess import best_guess, guess_by_colours, guess_by_network, outline_step
from stages.preprocess.guessing import Guessing
from stages.preprocess.guided import guided_filter
from stages.preprocess.learned import SIDE, look
from stages.preprocess.segment import segment
from stages.preprocess.shades import with_pale_parts
from stages.preprocess.stage import Preprocess, PreprocessParams

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_is_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """background=auto must not find this machine's own weights."""
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


@pytest.fixture
def stripped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation without the network's weights."""
    monkeypatch.setattr(sketch_net, "WEIGHTS", tmp_path / "none.safetensors")


def run(data: bytes, **params: Any) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Image, alpha (S, S), warnings, and notes of the progress."""
    warnings: list[str] = []
    notes: list[str] = []
    context = Context(
        warn=lambda text, **_: warnings.append(text),
        progress=lambda step, total, note="": notes.append(note),
    )
    stage = Preprocess(PreprocessParams(**params))
    stage.load(context)
    outputs = stage.run({"input_image": data}, context)
    return outputs["image"], outputs["alpha"][..., 0], warnings, notes


def texture(height: int, width: int, seed: int = 4) -> np.ndarray:
    """A blotchy ground of three greens and browns, (height, width, 3) in [0, 255]."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(0.3, 1.0, (height // 8 + 1, width // 8 + 1)).astype(np.float32)
    blotches = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    return blotches[..., None] * np.array([120.0, 140.0, 90.0])


def toy(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A lit figure of three balls: coverage (side, side) and colours (side, side, 3)."""
    x, y = grid(side)
    cover, colours = np.zeros((side, side)), np.zeros((side, side, 3))
    for cx, cy, radius, paint in (
        (0.0, 0.35, 0.42, (210, 60, 50)), (0.0, -0.3, 0.32, (240, 200, 60)),
        (0.0, -0.62, 0.12, (60, 90, 210)),
    ):  # fmt: skip
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        height = np.sqrt(np.maximum(radius**2 - (x - cx) ** 2 - (y - cy) ** 2, 0.0)) / radius
        light = 0.35 + 0.65 * np.clip(0.4 * -(x - cx) / radius - 0.5 * (y - cy) / radius, 0, 1)
        light = np.clip(light + 0.3 * height, 0.0, 1.0)
        colours[inside] = (light[..., None] * np.array(paint))[inside]
        cover[inside] = 1.0
    return cover, colours


def in_frame(height: int, width: int, side: int, left: int, top: int) -> tuple[np.ndarray, ...]:
    """The toy, `side` pixels large, on a texture: picture (height, width, 3) uint8 and mask."""
    cover, colours = toy(side)
    ground = texture(height, width)
    whole = np.zeros((height, width))
    whole[top : top + side, left : left + side] = cover
    front = np.zeros((height, width, 3))
    front[top : top + side, left : left + side] = colours
    return np.asarray(compose(whole, front, ground)), whole > 0.5


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def in_place(rgb: np.ndarray, **options: Any) -> tuple[np.ndarray, Any]:
    """What `segment` finds with the shipped network, (H, W) bool, and all that it says."""
    guessing = Guessing()
    found = segment(rgb, guess=guessing.guesser("auto"), eye=guessing.eye("auto"), **options)
    mask = np.zeros(rgb.shape[:2], np.float32)
    size = (int(found.region.width), int(found.region.height))
    mask[found.region.slices] = cv2.resize(found.mask.astype(np.float32), size)
    return mask > 0.5, found


# --- the shipped network --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "side", "left", "top"),
    [(300, 300, 220, 40, 40), (240, 480, 200, 60, 20), (480, 270, 240, 10, 200)],
    ids=["square", "wide", "tall"],
)
def test_an_object_on_a_texture_is_cut_out_and_not_doubted(
    height: int, width: int, side: int, left: int, top: int
) -> None:
    rgb, truth = in_frame(height, width, side, left, top)
    found, told = in_place(rgb)
    assert overlap(found, truth) > 0.85
    assert told.way == "network"
    assert told.doubt == ""


def test_a_small_object_in_a_large_picture_is_looked_at_closely() -> None:
    rgb, truth = in_frame(900, 1300, 260, 900, 500)
    found, told = in_place(rgb)
    assert overlap(found, truth) > 0.85
    assert told.region.width < 700


def test_a_run_says_that_what_told_the_object_is_not_sure() -> None:
    """The toy shines faintly through the ground."""
    rgb, _ = in_frame(300, 300, 220, 40, 40)
    faint = (0.2 * rgb + 0.8 * texture(300, 300)).astype(np.uint8)
    notes = run(file_of(Image.fromarray(faint)), background="network")[3]
    assert "cut out (network, unsure)" in notes


def test_a_run_says_what_told_the_object_and_is_the_same_every_time() -> None:
    rgb, _ = in_frame(300, 300, 220, 40, 40)
    data = file_of(Image.fromarray(rgb))
    first, again = run(data), run(data)
    assert first[3][1] == "cut out (network)"
    assert not any("GrabCut" in text for text in first[2])
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize("kind", ["noise", "texture"])
def test_a_picture_of_nothing_is_refused_or_doubted(kind: str) -> None:
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (240, 320, 3)) if kind == "noise" else texture(240, 320)
    told: list[str] = []
    try:
        told += run(file_of(Image.fromarray(picture.astype(np.uint8))))[2]
    except BadInput as error:
        told.append(error.hint)
    assert any("--mask FILE" in text for text in told)


def test_a_pale_object_on_white_is_no_shadow() -> None:
    cover, colours = toy(300)
    pale = 225.0 + 0.12 * colours.mean(axis=2, keepdims=True).repeat(3, axis=2)
    rgb = np.asarray(compose(cover, pale, np.full((300, 300, 3), 255.0)))
    found, told = in_place(rgb)
    assert told.way == "plain backdrop and network"
    assert overlap(found, cover > 0.5) > 0.85
    by_colour = segment(rgb).mask
    assert overlap(by_colour, cover > 0.5) < 0.8, "what the network is for"


def test_what_colours_do_not_tell_at_all_the_network_is_asked_for() -> None:
    """A toy bleached until the paper's own noise hides it."""
    cover, colours = toy(256)
    noise = np.random.default_rng(7).normal(0.0, 2.0, (400, 400, 3))
    rgb = np.full((400, 400, 3), 246.0) + noise
    rgb[72:328, 72:328] -= cover[..., None] * (255.0 - colours) * 0.03
    rgb = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    truth = np.zeros((400, 400), bool)
    truth[72:328, 72:328] = cover > 0.5
    assert not segment(rgb).mask.any()
    mask, found = in_place(rgb)
    assert overlap(mask, truth) > 0.7
    assert found.way == "plain backdrop and network"


def test_a_plain_backdrop_needs_no_network(tmp_path: Path) -> None:
    picture = tmp_path / "ring.png"
    picture.write_bytes(file_of(on_white(ring(300))))
    code = f"""
import sys
from pathlib import Path
import stages.preprocess.stage as stage
from stages.contract import Context
stage.locate = lambda name: None
made = stage.Preprocess(stage.PreprocessParams())
made.load(Context())
made.run({{"input_image": Path({str(picture)!r}).read_bytes()}}, Context())
print([name for name in ("torch", "onnxruntime") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [(16, 16), (16, 300), (900, 20)])
def test_tiny_and_narrow_pictures_are_cut_out_or_refused(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    data = file_of(Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)))
    for background in ("auto", "network"):
        with contextlib.suppress(BadInput):
            image, alpha, _, _ = run(data, background=background)
            assert image.shape[:2] == alpha.shape
            assert (alpha > 127).any()


# --- asked for, and missing -----------------------------------------------------------------------


def test_the_network_can_be_asked_for_on_any_background() -> None:
    cover, colours = toy(300)
    data = file_of(compose(cover, colours, np.full((300, 300, 3), 255.0)))
    _, alpha, _, notes = run(data, background="network")
    assert "cut out (network)" in notes
    rows = np.flatnonzero((alpha > 127).any(axis=1))
    assert (rows[-1] - rows[0] + 1) / len(alpha) == pytest.approx(0.85, abs=0.05)


@pytest.mark.usefixtures("stripped")
def test_without_its_weights_grabcut_guesses_and_it_is_said_once() -> None:
    rgb, _ = in_frame(300, 300, 220, 40, 40)
    _, alpha, warnings, notes = run(file_of(Image.fromarray(rgb)))
    assert "cut out (grabcut)" in notes
    assert sum("lacks the network" in text for text in warnings) == 1
    assert any("models pull isnet-general-use" in text for text in warnings)
    as_asked = run(file_of(Image.fromarray(rgb)), background="grabcut")
    assert np.array_equal(alpha, as_asked[1])
    assert not any("lacks the network" in text for text in as_asked[2])


@pytest.mark.usefixtures("stripped")
def test_without_its_weights_a_plain_backdrop_is_no_worse() -> None:
    _, alpha, warnings, notes = run(file_of(on_white(disc(200))))
    assert "cut out (plain backdrop)" in notes
    assert not warnings
    assert alpha[256, 256] == 255


@pytest.mark.usefixtures("stripped")
def test_asked_for_without_its_weights_it_fails_when_loaded() -> None:
    stage = Preprocess(PreprocessParams(background="network"))
    with pytest.raises(StageError, match=r"none\.safetensors") as caught:
        stage.load(Context())
    assert caught.value.kind == "missing_weights"
    assert "background=auto" in caught.value.hint


# --- believed, and not ----------------------------------------------------------------------------


class Told:
    """A network that says one thing of the middle of its square and another of the rest."""

    def __init__(self, middle: float, rest: float, radius: float = 0.5) -> None:
        x, y = grid(SIDE)
        self.share = np.where(np.hypot(x, y) < radius, middle, rest).astype(np.float32)
        self.squares: list[np.ndarray] = []

    def __call__(self, square: np.ndarray) -> np.ndarray:
        assert square.shape == (SIDE, SIDE, 3)
        assert square.dtype == np.uint8
        self.squares.append(square)
        return self.share


def test_a_sure_network_is_followed_and_an_unsure_one_is_not() -> None:
    rgb, truth = in_frame(300, 300, 220, 40, 40)
    sure, unsure = Told(0.99, 0.01), Told(0.7, 0.4)
    inside = cv2.resize(truth.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    fairly = Told(0.99, 0.01)
    fairly.share = np.where(inside > 0.5, np.float32(0.99), np.float32(0.01))
    x, y = grid(SIDE)
    open_band = (inside > 0.5) & (np.abs(np.hypot(x, y) - 0.4) < 0.08)
    fairly.share[open_band] = 0.6
    by_sure = best_guess(rgb, sure)
    assert (by_sure.way, by_sure.doubt) == ("network", "")
    by_fairly = best_guess(rgb, fairly)
    assert (by_fairly.way, by_fairly.doubt) == ("network", "unsure")
    beside = Told(0.99, 0.01, radius=0.3)  # where nothing in the picture has an outline
    beside.share[np.abs(np.hypot(x, y) - 0.3) < 0.06] = 0.6
    assert best_guess(rgb, beside).way == "grabcut"
    by_unsure = best_guess(rgb, unsure)
    assert by_unsure.doubt == "unsure"
    assert by_unsure.way == "grabcut"
    assert np.array_equal(by_unsure.mask, guess_by_colours(rgb).mask)
    assert guess_by_network(rgb, unsure).doubt == "unsure"


def test_a_network_that_sees_nothing_is_not_believed() -> None:
    rgb, _ = in_frame(300, 300, 220, 40, 40)
    guessed = best_guess(rgb, Told(0.0, 0.0))
    assert (guessed.way, guessed.doubt) == ("grabcut", "unsure")


def test_half_sure_it_helps_grabcut_where_that_finds_a_better_outline() -> None:
    """An object of the ground's own colours, darkened."""
    side = 256
    ground = texture(side, side)
    truth = disc(side, 0.5) > 0.5
    rgb = np.where(truth[..., None], ground[::-1, ::-1] * 0.5, ground)
    share = np.where(disc(side, 0.38) > 0.5, 0.95, np.where(disc(side, 0.64) > 0.5, 0.6, 0.02))
    picture = rgb.astype(np.uint8)
    guessed = best_guess(picture, lambda square: share.astype(np.float32))
    assert guessed.doubt == "unsure"
    assert overlap(guessed.mask, truth) >= overlap(guess_by_colours(picture).mask, truth)


def test_what_is_not_square_goes_in_with_its_border_repeated() -> None:
    rgb = np.zeros((100, 400, 3), np.uint8)
    rgb[:, 200:] = (10, 200, 30)
    told = Told(0.99, 0.01, radius=0.6)
    seen = look(rgb, told)
    square = told.squares[0]
    assert (square[0] == square[SIDE // 2]).all(), "above the picture is what its top row shows"
    assert (square[:, -1] == (10, 200, 30)).all()
    assert seen.share.shape == seen.mask.shape == (100, 400)
    assert seen.mask[50, 200]
    assert not seen.mask[50, 5]


def test_a_small_thing_is_looked_at_again_and_comes_back_to_its_place() -> None:
    told = Told(0.99, 0.01, radius=0.2)
    seen = look(np.zeros((512, 512, 3), np.uint8), told)
    assert len(told.squares) == 2
    inside = np.flatnonzero(seen.share.max(axis=0) > 0.5)
    assert inside.mean() == pytest.approx(255.5, abs=4)


def test_the_guided_filter_brings_a_soft_edge_to_the_pictures() -> None:
    truth = disc(200, 0.5) > 0.5
    rgb = np.where(truth[..., None], [200, 60, 50], [60, 90, 200]).astype(np.uint8)
    coarse = cv2.resize(cv2.resize(truth.astype(np.float32), (25, 25)), (200, 200))
    filtered = guided_filter(coarse, rgb, 8)
    assert filtered.dtype == np.float32
    assert filtered.min() >= 0.0
    assert filtered.max() <= 1.0
    assert overlap(filtered > 0.5, truth) > 0.99 > overlap(coarse > 0.5, truth)


def test_an_outline_along_colours_has_the_greater_step() -> None:
    rgb = np.asarray(compose(disc(200), shaded(200), texture(200, 200)))
    right, beside = disc(200) > 0.5, disc(200, cx=0.3) > 0.5
    assert outline_step(rgb, right) > 1.3 * outline_step(rgb, beside)
    for mask in (np.zeros((200, 200), bool), np.ones((200, 200), bool)):
        assert outline_step(rgb, mask) == 0.0


def test_pale_parts_are_added_but_neither_rims_nor_holes() -> None:
    told = ring(200) > 0.5
    rim, ball = disc(200, 0.62) > 0.5, disc(200, 0.25, cy=-0.7) > 0.5
    none = np.zeros_like(told)
    share = np.where(disc(200, 0.62) > 0.5, 0.8, 0.01).astype(np.float32)
    assert rim[100, 100]
    assert np.array_equal(with_pale_parts(told, none, share), told), "a hole, seen as a part"
    share[ball] = 0.8
    joined = with_pale_parts(told, ball & ~told, share)
    assert overlap(joined, told | ball) > 0.97
    assert not joined[100, 100]
    certain = np.where(share > 0.5, 0.99, 0.01).astype(np.float32)
    assert with_pale_parts(told, none, certain)[100, 100]
