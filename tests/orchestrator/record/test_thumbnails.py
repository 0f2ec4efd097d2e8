"""Small pictures show the user's file as a person sees it, and any object on a ground."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from orchestrator.record import thumbnails
from orchestrator.record.thumbnails import GROUND, cover_of_normals, input_thumbnail, on_ground


def test_a_rotated_photo_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    Image.new("RGB", (400, 100), "red").save(tmp_path / "in.jpg", exif=exif)
    assert input_thumbnail(tmp_path / "in.jpg", 256).size == (64, 256)


@pytest.mark.parametrize(("name", "dtype"), [("in.png", np.uint16), ("in.tif", np.float32)])
def test_wide_greys_are_scaled_not_clipped(tmp_path, name, dtype):
    ramp = np.tile(np.linspace(0.0, 65535.0, 64), (64, 1)).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / name)
    row = np.asarray(input_thumbnail(tmp_path / name, 256))[32, :, 0]
    assert row[0] == 0
    assert row[-1] == 255
    assert 120 < row[32] < 136


def test_a_damaged_picture_has_none(tmp_path):
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert input_thumbnail(tmp_path / "in.png", 256) is None


def test_a_picture_of_a_phone_has_one(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (400, 100), "red")).save(tmp_path / "in.heic")
    assert input_thumbnail(tmp_path / "in.heic", 256).size == (256, 64)


def test_only_what_is_decoded_of_a_huge_picture_is_held_to_the_limit(tmp_path, monkeypatch):
    Image.new("RGB", (2400, 1600), "red").save(tmp_path / "in.jpg")
    Image.new("RGB", (2400, 1600), "red").save(tmp_path / "in.png")
    monkeypatch.setattr(thumbnails, "_MOST_DECODED_BYTES", 1 << 20)
    assert input_thumbnail(tmp_path / "in.jpg", 256).size == (256, 171)
    assert input_thumbnail(tmp_path / "in.png", 256) is None


def test_what_is_transparent_shows_the_ground(tmp_path):
    picture = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    picture.paste((255, 255, 255, 255), (32, 0, 64, 64))
    picture.save(tmp_path / "in.png")
    found = input_thumbnail(tmp_path / "in.png", 256)
    assert found.getpixel((8, 8)) == (GROUND,) * 3
    assert found.getpixel((56, 8)) == (255,) * 3


def test_a_rim_is_as_if_it_had_been_drawn_on_the_ground():
    half = Image.new("RGB", (1, 1), (155, 127, 127))  # half of (55, 0, 0), on white
    found = on_ground(half, Image.new("L", (1, 1), 128))
    np.testing.assert_allclose(found.getpixel((0, 0)), (127.5, 100, 100), atol=1.5)


def test_a_normal_of_any_direction_is_object_and_a_noisy_white_is_not():
    directions = np.random.default_rng(1).normal(size=(16, 16, 3))
    directions[0, 0] = 1.0
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    normals = Image.fromarray(np.rint((directions + 1.0) * 127.5).astype(np.uint8))
    assert cover_of_normals(normals).getextrema() == (255, 255)
    assert cover_of_normals(Image.new("RGB", (4, 4), (255, 232, 240))).getextrema() == (0, 0)


@pytest.mark.parametrize("normal", [(255, 128, 128), (0, 128, 128), (128, 0, 128), (37, 37, 128)])
def test_a_pixel_at_the_outline_is_as_much_object_as_its_normal_is_mixed_with_white(normal):
    pixels = np.full((9, 9, 3), 255, np.uint8)
    pixels[:, :4] = normal
    pixels[:, 4] = np.rint(0.3 * np.array(normal) + 0.7 * 255.0)
    cover = np.asarray(cover_of_normals(Image.fromarray(pixels)))
    assert (cover[:, :4] == 255).all()
    assert cover[4, 4] == pytest.approx(0.3 * 255, abs=3)
    assert (cover[:, 5:] == 0).all()
