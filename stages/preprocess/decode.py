"""Bytes of a picture file -> 8-bit sRGB with alpha, within limits that are checked before decoding.

Whatever a decoder trips over is the picture's fault, so it ends as `BadInput`: Pillow's plugins
raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from stages.contract import BadInput

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The only decoders that see a user's bytes (JPEG includes the MPO files of some cameras)."""

MIN_SIDE = 16
MAX_PROFILE_BYTES = 4 << 20

_ACCEPTED = "Use a PNG, JPEG, WebP, BMP, TIFF or GIF file."
_DAMAGED = "Open it in an image viewer and save it again as PNG."


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    rgba    (H, W, 4) uint8, sRGB, straight (not premultiplied) alpha, upright
    format  Pillow's name of the file format
    frames  number of frames or pages in the file, of which `rgba` is the first
    """

    rgba: np.ndarray
    format: str
    frames: int


def decode(data: bytes, *, max_bytes: int, max_pixels: int) -> Picture:
    """Decode the first frame of a picture file.

    Raises `BadInput` when the file is empty, no picture, damaged, too large or too small.
    """
    if not data:
        raise BadInput("the input file is empty", _ACCEPTED)
    if len(data) > max_bytes:
        raise BadInput(
            f"the input file has {len(data)} bytes, more than the limit of {max_bytes}",
            "Use a smaller file, or raise the preprocess param max_bytes.",
        )
    with (
        _decoder_errors_are_bad_input(),
        Image.open(io.BytesIO(data), formats=FORMATS) as image,
    ):
        _check_size(image.size, max_pixels)
        frames = int(getattr(image, "n_frames", 1))
        image.seek(0)
        image.load()
        rgba = np.array(_to_srgba(_upright(image)))
    return Picture(rgba, image.format or "", frames)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadInput(
            f"the picture has {width} x {height} pixels, more than the limit of {max_pixels}",
            "Scale it down, or raise the preprocess param max_pixels.",
        )
    if min(width, height) < MIN_SIDE:
        raise BadInput(
            f"the picture has {width} x {height} pixels, at least {MIN_SIDE} a side are needed",
            "Use a larger picture; about 512 pixels across the object is good.",
        )


@contextmanager
def _decoder_errors_are_bad_input() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (BadInput, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadInput("the input file is not a picture that can be read", _ACCEPTED) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own limit, which is the most that max_pixels can be.
        raise BadInput(
            f"the picture has more pixels than the limit of decoding, {Image.MAX_IMAGE_PIXELS:,}",
            "Scale it down.",
        ) from error
    except Exception as error:
        raise BadInput(f"the picture is damaged or incomplete: {error}", _DAMAGED) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 (a damaged EXIF block says nothing about the pixels)
        return image


def _to_srgba(image: Image.Image) -> Image.Image:
    """Any mode that the accepted formats can have -> RGBA, colours in sRGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide_grey(image)
    profile = image.info.get("icc_profile")
    # Pillow knows how to apply a palette's or a key colour's transparency only on the way to RGBA.
    rgba = image.convert("RGBA")
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE_BYTES:
        source = image if image.mode in ("CMYK", "L") else rgba.convert("RGB")
        colours = _profile_to_srgb(source, profile)
        if colours is not None:
            colours.putalpha(rgba.getchannel("A"))
            return colours
    return rgba


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greyscale, which Pillow's own conversion would clip at 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    key = image.info.get("transparency")
    opaque = values != key if isinstance(key, int) else np.ones(values.shape, bool)
    grey = np.rint(np.clip(values / _white_level(image.mode, values), 0.0, 1.0) * 255.0)
    alpha = np.where(opaque, 255, 0)
    return Image.fromarray(np.stack([grey, grey, grey, alpha], axis=-1).astype(np.uint8), "RGBA")


def _white_level(mode: str, values: np.ndarray) -> float:
    """The number that stands for white; 32-bit files do not say, so the content has to."""
    if mode.startswith("I;16"):
        return 65535.0
    peak = float(values.max())
    levels = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    return next((level for level in levels if peak <= level), peak)


def _profile_to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Colours of `image` in sRGB, or None where the profile is unusable or of another space."""
    wanted = {"RGB": "RGB ", "CMYK": "CMYK", "L": "GRAY"}[image.mode]
    try:
        source: Any = ImageCms.getOpenProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != wanted:
            return None
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
