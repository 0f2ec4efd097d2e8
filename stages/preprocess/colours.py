"""Any mode that a decoder delivers -> 8-bit sRGB with alpha."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 << 20

_GREY_LEVELS = (255.0, 1023.0, 4095.0, 65535.0)
"""White of integers of 8, 10, 12 and 16 bits: scanners and cameras store fewer bits in more."""

_BITS_PER_SAMPLE = 258
"""TIFF tag."""


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """`image` scaled down by a whole number; averaged, where its mode can be."""
    if factor == 1:
        return image
    if image.mode in ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr", "F", "I"):
        info = image.info
        smaller = image.reduce(factor)
        smaller.info = dict(info)
        return smaller
    size = (max(1, image.width // factor), max(1, image.height // factor))
    return image.resize(size, Image.Resampling.NEAREST)


def to_srgba(image: Image.Image, bits: int = 0) -> Image.Image:
    """RGBA, colours in sRGB.

    bits  of a sample, where the file says fewer than its mode has room for; 0: it does not
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide_grey(image, bits)
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


def bits_per_sample(image: Image.Image) -> int:
    """What a TIFF says of its samples, 0 where nothing is said."""
    stated = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (0,))
    return int(stated[0]) if isinstance(stated, tuple) and stated else 0


def _from_wide_grey(image: Image.Image, bits: int) -> Image.Image:
    """12-bit, 16-bit, 32-bit and float greyscale, which Pillow's own conversion would clip."""
    values = np.asarray(image).astype(np.float32)
    key = image.info.get("transparency")
    opaque = values != key if isinstance(key, int) else np.ones(values.shape, bool)
    finite = np.isfinite(values)
    known = values[finite]
    low, high = _range(image.mode, known, bits)
    # Infinity is whiter or blacker than everything; what is no number at all is black.
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    grey = np.rint(np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)
    alpha = np.where(opaque, np.uint8(255), np.uint8(0))
    return Image.fromarray(np.stack([grey, grey, grey, alpha], axis=-1), "RGBA")


def _range(mode: str, values: np.ndarray, bits: int) -> tuple[float, float]:
    """The numbers that stand for black and white."""
    if not values.size:
        return 0.0, 1.0
    peak = float(values.max())
    if mode.startswith("I;16") and 8 < bits < 16:
        return 0.0, 2.0**bits - 1.0
    if mode != "F":
        levels = _GREY_LEVELS[2:] if mode.startswith("I;16") else _GREY_LEVELS
        return 0.0, next((level for level in levels if peak <= level), peak)
    bottom = float(values.min())
    if bottom < 0.0:  # heights, depths, differences: nothing says where black is but the content
        top = float(np.percentile(values, 99.9))
        bottom = float(np.percentile(values, 0.1))
        return bottom, max(top, bottom + 1e-6)
    # A few highlights may lie far above white, which is 1 in pictures that light was computed for.
    bulk = float(np.percentile(values, 99.5))
    if bulk <= 1.0:
        return 0.0, 1.0
    if bulk <= 16.0:
        return 0.0, bulk
    return 0.0, next((level for level in _GREY_LEVELS if peak <= level), bulk)


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
