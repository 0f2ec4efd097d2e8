"""Textures: decoded within limits, and looked up at the size at which they are seen."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from stages.contract import BadInput
from stages.contract.filetypes import HEAD, identify
from stages.contract.srgb import linear_to_srgb, srgb_to_linear
from stages.mesh_views.surface import Material
from stages.mesh_views.told import Told

DECODERS = {
    "png": ("PNG",),
    "jpeg": ("JPEG", "MPO"),
    "webp": ("WEBP",),
    "bmp": ("BMP",),
    "gif": ("GIF",),
}
"""The only decoders that see a texture's bytes, by what the first of those say that they are; and
TGA's by name, as that has no signature."""
MOST_SIDE = 2048
"""Of a texture as it is looked up: a tile shows 512 pixels of the whole object."""
MOST_TEXELS = 96 << 20
"""Of all textures of a mesh together, their smaller copies left out; 4 bytes each."""
HOLE = 0.1
"""Alpha below which a translucent surface is a hole: cut-outs that call themselves translucent are
so nearly everywhere, and glass is not."""

_LINEAR = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)


class Texture:
    """An sRGB picture with alpha, and its copies of half the size each, as mip-maps are."""

    def __init__(self, pixels: np.ndarray, wrap: Sequence[str]) -> None:
        """pixels: (H, W, 4) uint8 sRGB and alpha"""
        self._wrap = wrap
        self.levels = [np.ascontiguousarray(pixels)]
        while min(self.levels[-1].shape[:2]) > 1:
            self.levels.append(_halved(self.levels[-1]))

    @property
    def size(self) -> tuple[int, int]:
        """height, width"""
        height, width = self.levels[0].shape[:2]
        return height, width

    def look_up(self, uv: np.ndarray, level: np.ndarray) -> np.ndarray:
        """(n, 4) float32, linear light and alpha, at (n, 2) coordinates, v down.

        level: (n,) base-2 logarithm of how many texels a sample is wide
        """
        chosen = np.clip(np.rint(level), 0, len(self.levels) - 1).astype(np.int64)
        values = np.empty((len(uv), 4), np.float32)
        for number in np.unique(chosen):
            at = chosen == number
            values[at] = self._bilinear(self.levels[number], uv[at])
        return values

    def _bilinear(self, texels: np.ndarray, uv: np.ndarray) -> np.ndarray:
        height, width = texels.shape[:2]
        x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
        left, top = np.floor(x), np.floor(y)
        across, down = (x - left)[:, None], (y - top)[:, None]
        columns = [_wrapped(left + step, width, self._wrap[0]) for step in (0, 1)]
        rows = [_wrapped(top + step, height, self._wrap[1]) for step in (0, 1)]
        upper = _light(texels[rows[0], columns[0]]) * (1.0 - across)
        upper += _light(texels[rows[0], columns[1]]) * across
        lower = _light(texels[rows[1], columns[0]]) * (1.0 - across)
        lower += _light(texels[rows[1], columns[1]]) * across
        return np.asarray(upper * (1.0 - down) + lower * down)


def _light(texels: np.ndarray) -> np.ndarray:
    """(n, 4) uint8 -> float32, linear light and alpha in [0, 1]."""
    values = _LINEAR[texels]
    values[:, 3] = texels[:, 3] / np.float32(255.0)
    return values


def _wrapped(place: np.ndarray, size: int, how: str) -> np.ndarray:
    whole = place.astype(np.int64)
    if how == "clamp":
        return np.clip(whole, 0, size - 1)
    if how == "mirror":
        turned = whole % (2 * size)
        return np.where(turned < size, turned, 2 * size - 1 - turned)
    return whole % size


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Half the size, means of linear light weighted by alpha: what is cut away has no colour."""
    height, width = (max(2, side - side % 2) for side in pixels.shape[:2])
    values = _light(pixels[:height, :width].reshape(-1, 4)).reshape(
        height // 2, 2, width // 2, 2, 4
    )
    alpha = values[..., 3:].mean(axis=(1, 3))
    weighted = (values[..., :3] * values[..., 3:]).mean(axis=(1, 3))
    plain = values[..., :3].mean(axis=(1, 3))
    color = np.where(alpha > 0.0, weighted / np.where(alpha > 0.0, alpha, 1.0), plain)
    encoded = np.concatenate([linear_to_srgb(color), alpha], axis=2)
    return np.rint(encoded * 255.0).astype(np.uint8)


def decode_all(materials: Sequence[Material], max_pixels: int, told: Told) -> Mapping[int, Texture]:
    """Textures by the number of their material. One that cannot be read is told, and left out.

    Raises BadInput for one of more than `max_pixels`.
    """
    pictured = {n: one for n, one in enumerate(materials) if one.picture}
    most = MOST_SIDE
    while len({one.picture for one in pictured.values()}) * most * most > MOST_TEXELS and most > 64:
        most //= 2
    found: dict[int, Texture] = {}
    decoded: dict[tuple[bytes, Sequence[str]], Texture | None] = {}
    for number, material in pictured.items():
        key = (material.picture, material.wrap)
        if key not in decoded:
            pixels = _decoded(material, max_pixels, most, told)
            decoded[key] = None if pixels is None else Texture(pixels, material.wrap)
        texture = decoded[key]
        if texture is not None:
            found[number] = texture
    return found


def _decoded(material: Material, max_pixels: int, most: int, told: Told) -> np.ndarray | None:
    """(H, W, 4) uint8 of a material's picture, at most `most` a side; None, and told, if it cannot
    be read."""
    kind = identify(material.picture[:HEAD])
    formats = DECODERS.get(kind.name if kind else "", ())
    if kind is None and material.name.lower().endswith(".tga"):
        formats = ("TGA",)
    name = material.name or "a texture"
    if not formats:
        what = kind.title if kind else "no picture that can be read"
        told.once(f"{name} is {what}: its parts have one colour", degraded=True)
        return None
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the limit here holds
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(material.picture), formats=formats) as image:
                if image.width * image.height > max_pixels:
                    raise BadInput(
                        f"{name} has {image.width} x {image.height} pixels, more than the limit of "
                        f"{max_pixels:,}",
                        "Scale it down, or raise the limit: --set mesh_views.max_pixels=NUMBER.",
                    )
                return _pixels(image, most)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 (Pillow's plugins raise all kinds)
        told.once(f"{name} cannot be read ({error}): its parts have one colour", degraded=True)
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _pixels(image: Image.Image, most: int) -> np.ndarray:
    if max(image.size) > most:
        image.draft(None, (most, most))  # a JPEG is decoded smaller at once
    reduction = math.ceil(max(image.size) / most)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        grey = np.asarray(image, np.float64)
        scale = 255.0 / (65535.0 if grey.max(initial=0.0) > 255 else 255.0)
        rgba = Image.fromarray(np.rint(grey * scale).clip(0, 255).astype(np.uint8)).convert("RGBA")
    else:
        rgba = image.convert("RGBA")
    return np.asarray(rgba.reduce(reduction) if reduction > 1 else rgba)
