"""Decoding: every mode of every accepted format, limits before decoding, damage as BadInput."""

from __future__ import annotations

import contextlib
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from devtools import pictures
from devtools.pictures import file_of
from stages.contract import BadInput
from stages.preprocess import limits
from stages.preprocess.decode import Picture, decode

LIMITS: dict[str, Any] = {"max_bytes": 1 << 24, "max_pixels": 1 << 22}

QUADRANTS = np.zeros((32, 48, 3), np.uint8)
QUADRANTS[:16, :24] = (200, 40, 30)
QUADRANTS[:16, 24:] = (40, 180, 60)
QUADRANTS[16:, :24] = (30, 60, 210)
QUADRANTS[16:, 24:] = (240, 230, 90)


def read(data: bytes) -> Picture:
    return decode(data, **LIMITS)


def rgb_error(data: bytes, expected: np.ndarray) -> int:
    rgba = read(data).rgba
    assert rgba.dtype == np.uint8
    assert rgba.shape == (*expected.shape[:2], 4)
    return int(np.abs(rgba[..., :3].astype(int) - expected).max())


@pytest.mark.parametrize(
    ("file_format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("GIF", {}, 2),
        ("JPEG", {"quality": 95, "subsampling": 0}, 12),
        ("JPEG2000", {}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 12),
    ],
)
def test_each_format_gives_its_colours(
    file_format: str, options: dict[str, Any], tolerance: int
) -> None:
    data = file_of(Image.fromarray(QUADRANTS), file_format, **options)
    assert rgb_error(data, QUADRANTS) <= tolerance
    assert read(data).format == file_format
    assert (read(data).rgba[..., 3] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_each_png_mode_is_read(mode: str) -> None:
    image = Image.fromarray(QUADRANTS).convert(mode)
    expected = np.asarray(image.convert("RGBA"))
    assert np.array_equal(read(file_of(image)).rgba, expected)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_cmyk_and_grey_jpegs_are_read(mode: str) -> None:
    image = Image.fromarray(QUADRANTS).convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert rgb_error(file_of(image, "JPEG", quality=98), expected) <= 24


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(file_format: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    expected = np.rint(ramp / 65535 * 255)[..., None].repeat(3, axis=2)
    assert rgb_error(file_of(Image.fromarray(ramp), file_format), expected) == 0


def test_16_bit_grey_keeps_its_transparent_colour() -> None:
    rows = np.full((20, 20), 40_000, ">u2")
    rows[:5] = 1_000
    raw = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    key = pictures.chunk(b"tRNS", (1_000).to_bytes(2, "big"))
    rgba = read(pictures.png(20, 20, 16, 0, key, pictures.chunk(b"IDAT", raw))).rgba
    assert (rgba[:5, :, 3] == 0).all()
    assert (rgba[5:] == (156, 156, 156, 255)).all()


def test_16_bit_colour_is_read() -> None:
    wide = QUADRANTS[..., ::-1].astype(np.uint16) * 257
    assert rgb_error(cv2.imencode(".png", wide)[1].tobytes(), QUADRANTS) == 0


@pytest.mark.parametrize("peak", [1.0, 1.2, 255.0, 1000.0, 4000.0, 60_000.0])
def test_float_grey_takes_its_white_from_the_content(peak: float) -> None:
    ramp = np.tile(np.linspace(0, peak, 64, dtype=np.float32), (32, 1))
    rgba = read(file_of(Image.fromarray(ramp), "TIFF")).rgba
    assert rgba[..., 0].min() == 0
    assert rgba[..., 0].max() > 225


def test_float_grey_with_negative_numbers_spans_black_to_white() -> None:
    ramp = np.tile(np.linspace(-400.0, 800.0, 64, dtype=np.float32), (32, 1))
    grey = read(file_of(Image.fromarray(ramp), "TIFF")).rgba[..., 0]
    assert (grey.min(), grey.max()) == (0, 255)


def test_infinity_is_white_and_does_not_darken_the_rest() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (32, 1))
    ramp[0, :2] = np.inf, -np.inf
    grey = read(file_of(Image.fromarray(ramp), "TIFF")).rgba[..., 0]
    assert (grey[0, 0], grey[0, 1], grey[5, 63]) == (255, 0, 255)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_12_bits_in_16_are_as_bright_as_they_were_meant(file_format: str) -> None:
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (32, 1))
    expected = np.rint(ramp / 4095 * 255)[..., None].repeat(3, axis=2)
    assert rgb_error(file_of(Image.fromarray(ramp), file_format), expected) <= 1


def test_float_grey_with_nan_is_read() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (32, 1))
    ramp[0, 0] = np.nan
    assert read(file_of(Image.fromarray(ramp), "TIFF")).rgba[0, 0, 0] == 0


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_palette_transparency_becomes_alpha(file_format: str) -> None:
    indices = np.zeros((20, 20), np.uint8)
    indices[5:15, 5:15] = 1
    image = Image.fromarray(indices).convert("P")
    image.putpalette([255, 0, 255, 10, 200, 30] + [0] * 750)
    rgba = read(file_of(image, file_format, transparency=0)).rgba
    assert (rgba[0, 0, 3], rgba[10, 10, 3]) == (0, 255)
    assert tuple(rgba[10, 10, :3]) == (10, 200, 30)


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken(file_format: str) -> None:
    first = Image.fromarray(QUADRANTS)
    others = [Image.new("RGB", first.size, colour) for colour in ("black", "white")]
    picture = read(file_of(first, file_format, save_all=True, append_images=others))
    assert picture.frames == 3
    assert np.abs(picture.rgba[4, 4, :3].astype(int) - QUADRANTS[4, 4]).max() <= 8


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("blank", [(0, 0, 0, 0), (255, 255, 255, 255)])
def test_an_animation_that_begins_blank_gives_the_first_frame_that_is_not(
    file_format: str, blank: tuple[int, int, int, int]
) -> None:
    first = Image.new("RGBA", (48, 32), blank)
    drawn = [Image.fromarray(QUADRANTS).convert("RGBA"), Image.new("RGBA", (48, 32), "black")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    picture = read(file_of(first, file_format, save_all=True, append_images=drawn, **options))
    assert picture.frame == 2
    assert np.abs(picture.rgba[4, 4, :3].astype(int) - QUADRANTS[4, 4]).max() <= 8


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a, 1)),
        (2, lambda a: a[:, ::-1]),
    ],
)
def test_exif_orientation_is_applied(file_format: str, orientation: int, upright: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95} if file_format in ("JPEG", "WEBP") else {}
    data = file_of(Image.fromarray(QUADRANTS), file_format, exif=exif.tobytes(), **options)
    expected = upright(QUADRANTS)
    rgba = read(data).rgba
    assert rgba.shape[:2] == expected.shape[:2]
    assert np.abs(rgba[4, 4, :3].astype(int) - expected[4, 4]).max() < 25


def test_a_damaged_exif_block_does_not_matter() -> None:
    data = file_of(Image.fromarray(QUADRANTS), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert read(data).rgba.shape == (32, 48, 4)


def test_an_icc_profile_is_converted_to_srgb() -> None:
    profile = pictures.swapped_primaries_profile()
    red = Image.new("RGBA", (20, 20), (255, 0, 0, 90))
    rgba = read(file_of(red, icc_profile=profile)).rgba
    assert np.abs(rgba[0, 0].astype(int) - (0, 255, 0, 90)).max() <= 2


def test_a_broken_icc_profile_is_ignored() -> None:
    data = file_of(Image.fromarray(QUADRANTS), icc_profile=b"not a profile" * 20)
    assert rgb_error(data, QUADRANTS) == 0


# --- what cannot be read --------------------------------------------------------------------------


def refused(data: bytes, **limits: int) -> BadInput:
    with pytest.raises(BadInput) as caught:
        decode(data, **{**LIMITS, **limits})
    assert caught.value.kind == "bad_input"
    assert caught.value.hint
    return caught.value


def test_an_empty_file_is_named_so() -> None:
    assert "empty" in refused(b"").message


@pytest.mark.parametrize("data", [b"hello, world\n" * 9, b"%PDF-1.7\n%", b"\0" * 4096, b"\x89PNG"])
def test_what_is_no_picture_is_named_so(data: bytes) -> None:
    assert "not a picture" in refused(data).message


@pytest.mark.parametrize(
    ("data", "named", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page", "ownload"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", "PNG"),
        (b"%PDF-1.7\n", "PDF", "PNG"),
    ],
)
def test_what_people_take_for_a_picture_is_told_with_what_to_do(
    data: bytes, named: str, remedy: str
) -> None:
    error = refused(data)
    assert named in error.message
    assert remedy in error.hint


def test_a_heic_file_without_its_package_names_the_package(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert "pillow-heif" in error.message


def test_a_heic_file_is_read_where_its_package_is() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    picture = read(file_of(Image.fromarray(QUADRANTS), "HEIF", quality=95))
    assert np.abs(picture.rgba[4, 4, :3].astype(int) - QUADRANTS[4, 4]).max() <= 20


@pytest.mark.parametrize("file_format", ["PPM", "TGA", "ICO", "PCX"])
def test_other_decoders_are_never_tried(file_format: str) -> None:
    assert "not a picture" in refused(file_of(Image.fromarray(QUADRANTS), file_format)).message


def test_a_file_over_the_byte_limit_is_refused_unread() -> None:
    assert "max_bytes" in refused(b"x" * 2000, max_bytes=1999).hint


@pytest.mark.parametrize("side", [3_000, 12_000, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    bomb = pictures.png(side, side, 8, 2, pictures.chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    assert len(bomb) < 200
    assert "limit" in refused(bomb).message


@pytest.mark.parametrize("size", [(15, 400), (400, 15), (1, 1)])
def test_a_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    assert "at least 16" in refused(file_of(Image.new("RGB", size))).message


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_bad_input(file_format: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    data = file_of(Image.fromarray(noise), file_format)
    for share in (0.02, 0.3, 0.6, 0.9):
        refused(data[: int(len(data) * share)])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_bytes_never_raise_anything_else(file_format: str) -> None:
    rng = np.random.default_rng(7)
    image = Image.fromarray(QUADRANTS)
    clean = file_of(image, file_format, save_all=file_format == "GIF")
    for _ in range(150):
        data = bytearray(clean)
        for position in rng.integers(0, min(len(data), 600), 4):
            data[position] = rng.integers(256)
        with contextlib.suppress(BadInput):
            assert read(bytes(data)).rgba.shape[2] == 4


def test_running_out_of_memory_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        read(file_of(Image.fromarray(QUADRANTS)))


def test_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read(file_of(Image.fromarray(QUADRANTS), "TIFF"))
    assert list(tmp_path.iterdir()) == []


# --- what a picture may cost ----------------------------------------------------------------------


def tiff_of_pieces(count: int, pixel_type: int = 324) -> bytes:
    """A grey TIFF of 3000 x 3000 pixels that says it is stored in so many pieces."""
    tags = [(256, 4, 1, 3000), (257, 4, 1, 3000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1)]
    tiled = pixel_type == 324
    tags += [(322, 4, 1, 16), (323, 4, 1, 16)] if tiled else [(278, 4, 1, 1)]
    pieces_at = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags += [(pixel_type, 4, count, pieces_at)]
    tags += [(325 if tiled else 279, 4, count, pieces_at + 4 * count)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    directory = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + bytes(4)
    data_at = pieces_at + 8 * count
    pieces = struct.pack("<I", data_at) * count + struct.pack("<I", 256) * count
    return head + directory + pieces + bytes(256)


@pytest.mark.parametrize("pixel_type", [273, 324])
def test_a_tiff_in_millions_of_pieces_is_refused_before_they_are_listed(
    pixel_type: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a))
    limits_of_a_run = {"max_bytes": 1 << 28, "max_pixels": 1 << 28}
    with pytest.raises(BadInput, match="pieces"):
        decode(tiff_of_pieces(1_000_000, pixel_type), **limits_of_a_run)
    assert not opened


@pytest.mark.parametrize(("tile_width", "tile_height"), [(1, 1), (1 << 20, 1 << 20)])
def test_a_tiff_whose_tiles_do_not_fit_is_refused(tile_width: int, tile_height: int) -> None:
    data = bytearray(tiff_of_pieces(4))
    for tag, side in ((322, tile_width), (323, tile_height)):
        at = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
        data[at : at + 4] = struct.pack("<I", side)
    with pytest.raises(BadInput, match="tiles of"):
        decode(bytes(data), max_bytes=1 << 28, max_pixels=1 << 28)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_a_large_picture_is_read_scaled_down(
    file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WORK_PIXELS", 10_000)
    large = Image.fromarray(QUADRANTS.repeat(10, axis=0).repeat(10, axis=1))
    picture = decode(file_of(large, file_format), **LIMITS)
    height, width = picture.rgba.shape[:2]
    assert picture.size == (480, 320)
    assert height * width <= 10_000
    assert width / height == pytest.approx(1.5, rel=0.03)
    assert "scaled down" in picture.note
    assert np.abs(picture.rgba[4, 4, :3].astype(int) - QUADRANTS[4, 4]).max() <= 12


def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header() -> None:
    side = 30_000
    bomb = pictures.png(side, side, 8, 2, pictures.chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    with pytest.raises(BadInput, match="GiB"):
        decode(bomb, max_bytes=1 << 24, max_pixels=1 << 30)


def test_pillows_own_limit_is_left_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    read(file_of(Image.fromarray(QUADRANTS)))
    refused(b"GIF89a")
    assert before == Image.MAX_IMAGE_PIXELS
