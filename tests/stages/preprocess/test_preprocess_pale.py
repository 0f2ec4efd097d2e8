"""Shaded objects on white: glints are no holes, pale outlines are whole; and too few pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from devtools import drawings
from devtools.pictures import compose, coverage, disc, file_of, grid, on_white
from stages.contract import Context
from stages.preprocess.backdrop import to_lab
from stages.preprocess.faint_outline import faint_edge, with_faint_parts
from stages.preprocess.guessing import Guessing
from stages.preprocess.highlights import is_modelled, white_pieces, with_highlights
from stages.preprocess.learned import Seen
from stages.preprocess.params import PreprocessParams
from stages.preprocess.segment import segment
from stages.preprocess.stage import Preprocess

SIDE = 400
WHITE = np.full((SIDE, SIDE, 3), 255.0)


@pytest.fixture(autouse=True)
def no_is_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """background=auto must not find this machine's own weights."""
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


def ball(paint: tuple[int, int, int], glint: float = 0.0) -> np.ndarray:
    """Colours (SIDE, SIDE, 3) of a ball lit from the upper right, fading to white in a glint."""
    x, y = grid(SIDE)
    height = np.sqrt(np.maximum(0.49 - x * x - y * y, 0.0)) / 0.7
    light = np.clip(0.35 + 0.45 * height + 0.35 * (x - y), 0.0, 1.0)
    lit = light[..., None] * np.array(paint, float)
    shine = np.clip(1.6 - np.hypot(x - 0.25, y + 0.3) / max(glint, 1e-6), 0.0, 1.0)[..., None]
    colours: np.ndarray = lit * (1.0 - shine) + 255.0 * shine
    return colours


def shining_ball(hole: bool = False) -> np.ndarray:
    """A red ball with a glint, and perhaps bored through at its lower left; uint8."""
    cover = disc(SIDE, 0.7)
    if hole:
        cover = cover - disc(SIDE, 0.14, cx=-0.25, cy=0.25)
    return np.asarray(compose(cover, ball((220, 50, 40), glint=0.12), WHITE))


def pale_block() -> tuple[np.ndarray, np.ndarray]:
    """A lilac block that is lit until its right side is nearly white: picture and mask."""
    x, y = grid(SIDE)
    cover = coverage(0.6 - np.maximum(np.abs(x), np.abs(y)), SIDE / 2)
    fade = np.clip((x + 0.6) / 1.2, 0.0, 1.0) ** 2 * (0.9 + 0.1 * np.cos(9.0 * y))
    front = np.array([150.0, 130.0, 190.0]) * (1.0 - fade)[..., None] + 254.0 * fade[..., None]
    return np.asarray(compose(cover, front, WHITE)), cover > 0.5


def sees(mask: np.ndarray) -> Any:
    """A network that is sure of `mask` (h, w) bool."""
    return lambda rgb: Seen(mask.astype(np.float32), mask, 0.02)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_a_glint_is_a_part_where_the_network_says_so_and_a_bore_stays_open() -> None:
    rgb = shining_ball(hole=True)
    truth = (disc(SIDE, 0.7) > 0.5) & ~(disc(SIDE, 0.14, cx=-0.25, cy=0.25) > 0.5)
    by_colour = segment(rgb).mask
    assert not by_colour[140, 250], "the glint looks like a hole"
    found = segment(rgb, eye=sees(truth))
    assert found.way == "plain backdrop and network"
    assert found.mask[140, 250]
    assert not found.mask[250, 150]
    assert overlap(found.mask, truth) > 0.97


def shaded_mug() -> np.ndarray:
    """A green mug with a handle at its right, (SIDE, SIDE, 3) uint8."""
    x, y = grid(SIDE)
    body = coverage(0.45 - np.maximum(np.abs(x + 0.2), np.abs(y) * 0.75), SIDE / 2)
    away = np.abs(np.hypot(x - 0.3, y) - 0.34)
    handle = coverage(0.09 - away, SIDE / 2) * (x > 0.2)
    round_body = np.sqrt(np.clip(1.0 - ((x + 0.2) / 0.5) ** 2, 0.0, 1.0))
    round_handle = np.sqrt(np.clip(1.0 - (away / 0.1) ** 2, 0.0, 1.0))
    light = 0.3 + 0.6 * np.where(body > 0.5, round_body, round_handle) - 0.15 * x
    front = light[..., None] * np.array([60.0, 170.0, 110.0])
    return np.asarray(compose(np.maximum(body, handle), front, WHITE))


def test_the_shipped_network_closes_a_glint_and_leaves_a_handle_open() -> None:
    eye = Guessing().eye("auto")
    assert not segment(shining_ball()).mask[140, 250]
    assert segment(shining_ball(), eye=eye).mask[140, 250]
    rgb = shaded_mug()
    by_colour = segment(rgb).mask
    assert is_modelled(by_colour, to_lab(rgb)), "the network is asked"
    assert len(white_pieces(by_colour)) == 1
    assert not segment(rgb, eye=eye).mask[195:205, 280:290].any()


@pytest.mark.parametrize("draw", [drawings.hoop, drawings.glasses, drawings.letter_b])
def test_the_network_is_not_asked_about_holes_in_a_flat_drawing(draw: drawings.Draw) -> None:
    rgb = np.asarray(drawings.drawn(draw).convert("RGB"))
    assert not is_modelled(segment(rgb).mask, to_lab(rgb))


def test_a_shaded_surface_is_modelled_at_any_size_and_a_flat_one_is_not() -> None:
    for side in (150, SIDE):
        small = cv2.resize(shining_ball(), (side, side), interpolation=cv2.INTER_AREA)
        mask = disc(side, 0.7) > 0.5
        assert is_modelled(mask, to_lab(small))
        flat = np.asarray(
            compose(disc(side, 0.7), np.full((side, side, 3), 90.0), WHITE[:side, :side])
        )
        assert not is_modelled(mask, to_lab(flat))
    assert not is_modelled(np.zeros((SIDE, SIDE), bool), to_lab(shining_ball()))


def test_a_discs_hole_stays_whatever_the_network_says() -> None:
    whole = disc(SIDE, 0.7) > 0.5
    mask = whole & ~(disc(SIDE, 0.12) > 0.5)
    assert white_pieces(mask) == []
    aside = whole & ~(disc(SIDE, 0.12, cx=0.3) > 0.5)
    [piece] = white_pieces(aside)
    assert np.array_equal(with_highlights(aside, [piece], np.ones(whole.shape, np.float32)), whole)
    unsure = np.full(whole.shape, 0.85, np.float32)
    assert np.array_equal(with_highlights(aside, [piece], unsure), aside)


def test_a_pale_side_that_colour_bites_into_is_whole_with_the_network() -> None:
    rgb, truth = pale_block()
    assert overlap(segment(rgb).mask, truth) < 0.96, "what the network is for"
    found = segment(rgb, eye=sees(truth))
    assert found.way == "plain backdrop and network"
    assert overlap(found.mask, truth) > 0.98


def test_the_networks_outline_counts_at_faint_edges_alone() -> None:
    """It sees the object 4 pixels larger all round; only the left half's colours are strong."""
    mask = disc(SIDE, 0.6) > 0.5
    off = np.full(mask.shape, 10.0, np.float32)
    off[:, : SIDE // 2] = 60.0
    faint = faint_edge(mask, off)
    assert faint.any()
    assert not faint[:, : SIDE // 2 - 10].any()
    wider = cv2.dilate(mask.astype(np.float32), np.ones((9, 9), np.uint8))
    beyond = (wider > 0.5) & ~mask
    added = with_faint_parts(mask, faint, wider) & ~mask
    right = np.s_[:, SIDE // 2 + 20 :]
    assert added[right].sum() > 0.9 * beyond[right].sum()
    assert not added[:, : SIDE // 2 - 20].any()


def test_a_faint_edge_around_a_hole_does_not_close_it() -> None:
    mask = (disc(SIDE, 0.7) > 0.5) & ~(disc(SIDE, 0.2) > 0.5)
    faint = faint_edge(mask, np.full(mask.shape, 10.0, np.float32))
    everything = np.ones(mask.shape, np.float32) * (disc(SIDE, 0.7) > 0.5)
    assert not with_faint_parts(mask, faint, everything.astype(np.float32))[200, 200]


# --- too few pixels -------------------------------------------------------------------------------


def warnings_of(picture: Image.Image, **params: Any) -> list[str]:
    told: list[str] = []
    context = Context(warn=lambda text, **_: told.append(text))
    Preprocess(PreprocessParams(**params)).run({"input_image": file_of(picture)}, context)
    return told


@pytest.mark.parametrize("method", ["auto", "alpha"])
@pytest.mark.parametrize(("across", "is_small"), [(70, True), (110, False), (300, False)])
def test_an_object_of_few_pixels_is_a_warning(method: str, across: int, is_small: bool) -> None:
    side = 500
    cover = disc(side, across / side)
    picture = on_white(cover)
    if method == "alpha":
        picture.putalpha(Image.fromarray((cover * 255.0).astype(np.uint8)))
    told = [text for text in warnings_of(picture, background=method) if "pixels large" in text]
    assert len(told) == is_small
    assert all(f"{across} x {across} pixels" in text for text in told)
    assert all("larger" in text for text in told)


def test_a_small_picture_that_is_all_object_is_a_warning_too() -> None:
    small = Image.new("RGB", (80, 60), (120, 90, 60))
    assert any("80 x 60 pixels large" in text for text in warnings_of(small, background="keep"))
    large = Image.new("RGB", (200, 96), (120, 90, 60))
    assert not warnings_of(large, background="keep")
