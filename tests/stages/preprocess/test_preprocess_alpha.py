"""A picture's own alpha, a mask of the user's, a stated background: each gives one silhouette."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from devtools import drawings
from devtools.drawings import cutout_of, drawn
from devtools.pictures import disc, file_of, grid, on_white, ring
from stages.contract import BadInput, Context
from stages.preprocess.stage import Preprocess, PreprocessParams

RED, PALE, BLACK = (220, 60, 40), (235, 235, 250), (0, 0, 0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


def run(
    picture: Image.Image, mask: Image.Image | None = None, **params: Any
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Image (S, S, 3), alpha (S, S), and what the stage warned of."""
    warnings: list[str] = []
    inputs = {"input_image": file_of(picture)}
    if mask is not None:
        inputs["input_mask"] = file_of(mask)
    context = Context(warn=lambda text, degraded=False: warnings.append(text))
    outputs = Preprocess(PreprocessParams(**params)).run(inputs, context)
    return outputs["image"], outputs["alpha"][..., 0], warnings


def blot(width: float, height: float, cy: float, softness: float, side: int = 400) -> np.ndarray:
    """A soft ellipse, coverage (side, side)."""
    x, y = grid(side)
    off = np.hypot(x / width, (y - cy) / height)
    return 1.0 / (1.0 + np.exp(np.clip((off - 1.0) / softness, -50.0, 50.0)))


def area(alpha: np.ndarray) -> float:
    """Of the object as every later stage sees it, against a disc that fills the frame's 85 %."""
    return float((alpha > 127).mean()) / (0.85**2 * np.pi / 4)


def agrees(alpha: np.ndarray) -> bool:
    """Whether "more than nothing" and "more than half" mean the same pixels, outlines apart."""
    return float(((alpha > 12) != (alpha > 127)).mean()) < 0.012


@pytest.mark.parametrize("opacity", [0.15, 0.45, 0.7])
def test_an_object_that_is_translucent_all_over_is_brought_to_full_and_told(opacity: float) -> None:
    image, alpha, warnings = run(cutout_of((disc(400), RED, opacity)))
    assert area(alpha) == pytest.approx(1.0, abs=0.03)
    assert agrees(alpha)
    assert np.abs(image[len(image) // 2, len(image) // 2].astype(int) - RED).max() <= 3
    [told] = warnings
    assert f"100% of the object is translucent in the picture (about {opacity:.0%} opaque" in told


@pytest.mark.parametrize("opacity", [0.95, 1.0])
def test_what_is_opaque_is_not_called_translucent(opacity: float) -> None:
    _, alpha, warnings = run(cutout_of((disc(400), RED, opacity)))
    assert area(alpha) == pytest.approx(1.0, abs=0.03)
    assert not warnings


def test_a_ghost_that_fades_downwards_keeps_its_tail() -> None:
    picture = np.asarray(cutout_of((disc(400), PALE, 1.0))).copy()
    _, y = grid(400)
    picture[..., 3] = (picture[..., 3] * (0.6 - 0.35 * y)).astype(np.uint8)
    _, alpha, _ = run(Image.fromarray(picture))
    assert area(alpha) == pytest.approx(1.0, abs=0.04)
    assert agrees(alpha)


@pytest.mark.parametrize("softness", [0.001, 0.1])
@pytest.mark.parametrize("opacity", [0.4, 0.75])
def test_a_dark_shadow_in_the_alpha_is_left_out_and_told(softness: float, opacity: float) -> None:
    shadow = blot(0.9, 0.15, 0.5, softness)
    image, alpha, warnings = run(
        cutout_of((shadow, BLACK, opacity), (disc(400), RED, 1.0)), foreground_ratio=0.85
    )
    assert area(alpha) == pytest.approx(1.0, abs=0.05)
    assert image[alpha > 127].min(axis=0)[0] > 100, "no black rim is left of it"
    assert any("shadow" in text for text in warnings)
    rows = np.flatnonzero((alpha > 127).any(axis=1))
    assert abs(rows[0] + rows[-1] + 1 - len(alpha)) <= 3, "centred on what is solid"


def test_a_glow_is_left_out() -> None:
    glow = blot(0.75, 0.75, 0.0, 0.12)
    _, alpha, warnings = run(cutout_of((glow, (255, 240, 120), 0.7), (disc(400), RED, 1.0)))
    assert area(alpha) == pytest.approx(1.0, abs=0.05)
    assert any("glow" in text for text in warnings)


def test_translucent_parts_of_an_object_stay() -> None:
    pane, frame = disc(400, 0.5), ring(400)
    tinted = cutout_of((pane, (10, 10, 10), 0.7), (frame, RED, 1.0))
    wing = disc(400, 0.35, cx=0.5)
    winged = cutout_of((wing, (200, 220, 255), 0.4), (disc(400, 0.35, cx=-0.3), RED, 1.0))
    _, alpha, warnings = run(tinted)
    assert area(alpha) == pytest.approx(1.0, abs=0.03)
    assert any("translucent in the picture (about 70% opaque" in text for text in warnings)
    _, alpha, warnings = run(winged)
    assert any("translucent in the picture (about 40% opaque" in text for text in warnings)
    assert alpha[len(alpha) // 2, round(0.85 * len(alpha))] == 255
    assert agrees(alpha)


def test_a_soft_outline_ends_at_half_of_its_level() -> None:
    x, y = grid(400)
    soft = 1.0 / (1.0 + np.exp((np.hypot(x, y) - 0.5) / 0.02))
    _, alpha, warnings = run(cutout_of((soft, RED, 1.0)))
    assert agrees(alpha)
    assert not warnings


def test_alpha_that_hardly_shows_is_called_that() -> None:
    with pytest.raises(BadInput, match="its alpha is 9 of 255"):
        run(Image.new("RGBA", (200, 200), (255, 0, 0, 9)))


# --- a mask, a stated background ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bright", "alpha", "smaller"])
def test_a_mask_says_where_the_object_is(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)
    shape = np.rint(ring(300) * 255).astype(np.uint8)
    mask = Image.fromarray(shape)
    if kind == "alpha":
        mask = Image.merge("LA", (Image.new("L", mask.size, 30), mask))
    if kind == "smaller":
        mask = mask.resize((150, 150))
    _, alpha, warnings = run(Image.fromarray(noise), mask)
    assert area(alpha) == pytest.approx(1.0 - 1.0 / 9.0, abs=0.04)
    assert alpha[len(alpha) // 2, len(alpha) // 2] == 0
    assert not warnings


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("L", (300, 200), 255), "differ in shape"),
        (Image.new("L", (200, 200), 20), "no object"),
        (Image.new("L", (1, 1), 255), "the mask has 1 x 1 pixels"),
        (Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), 98)), "only 4 x 4 pixels"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_and_the_hint_speaks_of_it(
    mask: Image.Image, words: str
) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        run(on_white(disc(200)), mask)
    assert "white is the object, black the background" in refused.value.hint


def test_a_mask_that_has_the_background_in_it_is_doubted_as_a_mask() -> None:
    _, _, warnings = run(on_white(disc(200)), Image.new("L", (200, 200), 255))
    assert any("or the mask has background in it" in text for text in warnings), warnings


@pytest.mark.parametrize(
    ("background", "colour"), [("white", "white"), ("black", "black"), ("#30c060", "#30c060")]
)
def test_a_stated_background_is_taken_away_wherever_the_object_touches_the_edge(
    background: str, colour: str
) -> None:
    x, y = grid(300)
    inside = (np.abs(y - 0.5) < 0.5) & (np.abs(x) < 0.9)
    picture = Image.new("RGB", (300, 300), colour)
    picture.paste(Image.new("RGB", (300, 300), (200, 90, 160)), mask=Image.fromarray(inside))
    _, alpha, _ = run(picture, background=background)
    rows = (alpha > 127).any(axis=1).mean()
    columns = (alpha > 127).any(axis=0).mean()
    assert columns == pytest.approx(0.85, abs=0.02)
    assert rows / columns == pytest.approx(0.5 / 0.9, abs=0.03)


def test_a_stated_background_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="stated colour"):
        run(on_white(disc(200)), background="#102030")


def test_keep_takes_the_whole_picture_and_its_earlier_name_still_does() -> None:
    for name in ("keep", "none"):
        _, alpha, _ = run(on_white(disc(600)), background=name, foreground_ratio=1.0)
        assert (alpha == 255).all()


@pytest.mark.parametrize("value", ["blue", "#12345", "#gggggg", None, 7])
def test_a_background_that_is_none_is_refused_with_what_it_may_be(value: object) -> None:
    with pytest.raises(ValidationError, match=r"white, black, or a colour as '#rrggbb'"):
        PreprocessParams(background=value)


# --- what is doubtful -----------------------------------------------------------------------------


def test_an_object_that_is_cut_off_at_two_sides_is_told() -> None:
    _, _, warnings = run(on_white(disc(300, 0.6, cx=0.6, cy=0.6)))
    assert any("edge at the bottom and right" in text for text in warnings)
    assert not run(on_white(disc(300, 0.5, cy=0.7)))[2], "one side: a bust"


def test_a_trimmed_cutout_is_not_taken_for_one_that_is_cut_off() -> None:
    trimmed = cutout_of((disc(300), RED, 1.0))
    assert not run(trimmed.crop(trimmed.getbbox()))[2]


def test_loose_pieces_are_told_with_their_shares() -> None:
    both = np.maximum(disc(300, 0.3, cx=-0.5), disc(300, 0.3, cx=0.5))
    for picture in (on_white(both), cutout_of((both, RED, 1.0))):
        assert any("2 loose pieces (50%, 50%)" in text for text in run(picture)[2])


def test_a_guess_of_grabcuts_is_told_with_the_command_that_helps() -> None:
    noise = np.random.default_rng(4).uniform(40, 220, (200, 200, 3))
    shape = disc(200, 0.5)[..., None]
    mixed = shape * np.array(RED) + (1 - shape) * noise
    _, _, warnings = run(Image.fromarray(mixed.astype(np.uint8)), background="grabcut")
    assert any("models pull isnet-general-use" in text for text in warnings)
    assert not run(drawn(drawings.doughnut))[2], "a plain backdrop is no guess"


def test_white_all_around_an_object_that_reaches_over_two_sides_is_its_backdrop() -> None:
    x, y = grid(300)
    inside = (x > -0.3) & (np.abs(y) < 2) & ((x > 0.1) | (np.abs(y) < 0.5))
    picture = on_white(inside.astype(float))
    _, alpha, warnings = run(picture)
    assert not any("GrabCut" in text for text in warnings)
    assert alpha[len(alpha) // 2, len(alpha) // 2] == 255


@pytest.mark.parametrize("pixels", [1, 3, 7])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_object_of_a_few_pixels_is_refused(pixels: int, mode: str) -> None:
    picture = Image.new(mode, (2500, 2500), "white" if mode == "RGB" else (0, 0, 0, 0))
    picture.paste((220, 60, 40), (1200, 1200, 1200 + pixels, 1200 + pixels))
    with pytest.raises(BadInput, match=r"the object is only|nothing is left"):
        run(picture)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_small_object_on_a_large_canvas_is_never_enlarged_beyond_its_own_crop(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.preprocess import cutout

    sizes: list[int] = []
    crop = cutout.scaled_crop

    def measured(*arguments: Any) -> np.ndarray:
        pixels = crop(*arguments)
        sizes.append(max(pixels.shape[:2]))
        return pixels

    monkeypatch.setattr(cutout, "scaled_crop", measured)
    picture = Image.new(mode, (2500, 2500), "white" if mode == "RGB" else (0, 0, 0, 0))
    picture.paste((220, 60, 40), (1200, 1200, 1212, 1210))
    _, alpha, _ = run(picture)
    assert max(sizes) <= 2 * 512
    assert (alpha > 127).any(axis=0).mean() == pytest.approx(0.85, abs=0.08)
