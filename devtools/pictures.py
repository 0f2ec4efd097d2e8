"""Pictures drawn in code, and files made of them, for the preprocess tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SIDE = 160


def file_of(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def grid(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y downwards, both from -1 to 1, (side, side)."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return x, y


def coverage(inside: np.ndarray, sharpness: float) -> np.ndarray:
    """Antialiased coverage in [0, 1] of a region given as a signed distance, positive inside."""
    return np.clip(0.5 + inside * sharpness, 0.0, 1.0)


def ring(side: int = SIDE, cx: float = 0.0, cy: float = 0.0) -> np.ndarray:
    """A ring (object with a hole), coverage (side, side)."""
    x, y = grid(side)
    return coverage(0.2 - np.abs(np.hypot(x - cx, y - cy) - 0.4), side / 2)


def disc(side: int = SIDE, radius: float = 0.5, cx: float = 0.0, cy: float = 0.0) -> np.ndarray:
    x, y = grid(side)
    return coverage(radius - np.hypot(x - cx, y - cy), side / 2)


def shaded(side: int = SIDE) -> np.ndarray:
    """Object colours, (side, side, 3) in [0, 255]: an orange that gets darker to the right."""
    x, _ = grid(side)
    return np.array([230.0, 120.0, 30.0]) * (0.85 - 0.25 * x)[..., None]


def compose(alpha: np.ndarray, front: np.ndarray, back: np.ndarray) -> Image.Image:
    mixed = alpha[..., None] * front + (1.0 - alpha[..., None]) * back
    return Image.fromarray(np.rint(np.clip(mixed, 0, 255)).astype(np.uint8))


def on_white(alpha: np.ndarray) -> Image.Image:
    return compose(alpha, shaded(len(alpha)), np.full((*alpha.shape, 3), 255.0))


def cutout(alpha: np.ndarray) -> Image.Image:
    """RGBA with black under the transparent pixels, so that a lost alpha shows."""
    rgb = np.where(alpha[..., None] > 0, shaded(len(alpha)), 0.0)
    both = np.concatenate([rgb, alpha[..., None] * 255.0], axis=-1)
    return Image.fromarray(np.rint(both).astype(np.uint8))


def png(width: int, height: int, bit_depth: int, colour_type: int, *chunks: bytes) -> bytes:
    """A PNG file from its header and further, ready-made chunks."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def swapped_primaries_profile() -> bytes:
    """An ICC profile whose red is sRGB's green and the other way round."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)
