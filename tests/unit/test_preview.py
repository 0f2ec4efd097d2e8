"""result/preview.png shows the user's picture as a person sees it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from orchestrator.preview import input_thumbnail


def test_a_rotated_photo_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    Image.new("RGB", (400, 100), "red").save(tmp_path / "in.jpg", exif=exif)
    assert input_thumbnail(tmp_path / "in.jpg").size == (64, 256)


@pytest.mark.parametrize(("name", "dtype"), [("in.png", np.uint16), ("in.tif", np.float32)])
def test_wide_greys_are_scaled_not_clipped(tmp_path, name, dtype):
    ramp = np.tile(np.linspace(0.0, 65535.0, 64), (64, 1)).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / name)
    row = np.asarray(input_thumbnail(tmp_path / name))[32, :, 0]
    assert row[0] == 0
    assert row[-1] == 255
    assert 120 < row[32] < 136


def test_a_damaged_picture_has_no_tile(tmp_path):
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert input_thumbnail(tmp_path / "in.png") is None
