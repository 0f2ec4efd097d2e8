"""Masks from white backgrounds, the reference's mask_fix, and colours that spread outwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.geometry.masks import foreground, mask_fix, spread_colors

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(np.hypot(x, y) < radius)


@pytest.mark.parametrize(
    ("name", "erode_dilate", "blur"), [("mask_fix_m10_5", -10, 5), ("mask_fix_p7_0", 7, 0)]
)
def test_mask_fix_equals_the_references(name: str, erode_dilate: int, blur: int) -> None:
    golden = np.load(GOLDEN / "masks.npz")
    found = mask_fix(golden["mask_in"], erode_dilate, blur)
    np.testing.assert_allclose(found, golden[name], atol=1e-5)


def test_an_even_blur_is_widened_by_one_as_in_the_reference() -> None:
    mask = disc(32, 9)[None].astype(float)
    np.testing.assert_array_equal(mask_fix(mask, 0, 4), mask_fix(mask, 0, 5))


def test_every_normal_is_told_from_white() -> None:
    # The directions of a sphere, among them (1, 1, 1) / sqrt(3), which is encoded as 0.79.
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(64, 64, 3))
    normals[0] = 1.0
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    tile = np.ones((1, 128, 128, 3))
    tile[0, 32:96, 32:96] = (normals + 1) / 2
    expected = np.zeros((1, 128, 128), bool)
    expected[0, 32:96, 32:96] = True
    np.testing.assert_array_equal(foreground(tile, 0.1, 16), expected)


def test_noise_in_the_background_and_specks_are_no_object() -> None:
    rng = np.random.default_rng(1)
    tile = np.where(disc(64, 20)[..., None], 0.5, 1.0 - rng.uniform(0, 0.06, (64, 64, 3)))
    tile[2:4, 2:4] = 0.2  # a speck outside
    tile[32, 32] = 1.0  # and a pinhole inside
    np.testing.assert_array_equal(foreground(tile[None], 0.1, 16)[0], disc(64, 20))


def test_spread_colours_hold_no_trace_of_the_background() -> None:
    mask = disc(64, 20)
    soft = mask_fix(mask[None].astype(float), 0, 3)[0][..., None]
    red = np.array([0.6, 0.1, 0.1])
    tile = red * soft + 1.0 * (1 - soft)
    assert np.abs(tile[mask] - red).max() > 0.1  # the outline is mixed with white
    np.testing.assert_allclose(
        spread_colors(tile[None], mask[None], 2)[0], np.full((64, 64, 3), red)
    )


def test_a_part_thinner_than_the_margin_keeps_its_colour() -> None:
    mask = disc(64, 12)
    mask[31:34, 40:60] = True  # a 3 pixel wide handle
    tile = np.where(mask[..., None], (0.1, 0.1, 0.9), 1.0)
    tile[31:34, 50:60] = (0.9, 0.1, 0.1)
    spread = spread_colors(tile[None], mask[None], 4)[0]
    np.testing.assert_allclose(spread[32, 57], (0.9, 0.1, 0.1))
    np.testing.assert_allclose(spread[28, 57], (0.9, 0.1, 0.1))


def test_an_empty_tile_is_left_alone() -> None:
    tile = np.ones((1, 8, 8, 3))
    np.testing.assert_array_equal(spread_colors(tile, np.zeros((1, 8, 8), bool), 2), tile)
