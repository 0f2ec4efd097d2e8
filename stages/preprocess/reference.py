"""Framing exactly as the reference does it, quirks included.

After docs/reference.md, "The input picture": the object is NOT re-centred (the
colour behind the cutout makes every pixel's alpha at least 191), the last row and column are lost,
and the rim is darkened because the mask is applied twice and then pasted on grey. All arithmetic
is 8 bit with rounding, as in Pillow.
"""

from __future__ import annotations

import numpy as np

GREY = 127
WHITE = 255


def flatten_on_grey(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 -> (H, W, 3) uint8, pasted on grey 127: the reference's first step."""
    return blend(rgba[..., :3], GREY, rgba[..., 3:])


def cut_out_on_white(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The background remover's result: (H, W, 4) uint8 with rgb m^2 + 255 (1 - m) and
    alpha 255 (m^2 + 1 - m), for m = mask / 255 and `mask` (H, W) uint8."""
    m = mask[..., None]
    cutout = np.concatenate([blend(rgb, 0, m), m], axis=-1)
    return blend(cutout, WHITE, m)


def resize_foreground(rgba: np.ndarray, ratio: float, pad_value: int) -> np.ndarray:
    """Crop to alpha > 0, pad to a square, pad to 1 / `ratio` of its side.

    `rgba` (H, W, 4) uint8 -> (S, S, 4) uint8. The crop leaves out the last row and column.
    """
    return _place(rgba, rgba[..., 3], ratio, pad_value)


def frame(rgb: np.ndarray, mask: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) and mask (H, W), uint8 -> image (S, S, 3) and alpha (S, S, 1), uint8.

    The image is the reference's; the alpha, which the reference does not keep, is the mask under
    the same crop and padding.
    """
    cutout = cut_out_on_white(rgb, mask)
    image = flatten_on_grey(resize_foreground(cutout, ratio, WHITE))
    return image, _place(mask[..., None], cutout[..., 3], ratio, 0)


def blend(front: np.ndarray, back: int | tuple[int, int, int], mask: np.ndarray) -> np.ndarray:
    """front m + back (1 - m) for m = mask / 255, rounded to the nearest; uint8 in and out."""
    share = mask.astype(np.uint16)
    behind = np.asarray(back, np.uint16)
    mixed = front * share + behind * (np.uint16(255) - share) + np.uint16(128)
    # x / 255 without a division, exact for products of two bytes; fits 16 bits.
    rounded: np.ndarray = ((mixed + (mixed >> 8)) >> 8).astype(np.uint8)
    return rounded


def _place(values: np.ndarray, alpha: np.ndarray, ratio: float, pad_value: int) -> np.ndarray:
    seen = alpha > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    crop = values[rows[0] : rows[-1], columns[0] : columns[-1]]
    side = max(crop.shape[:2])
    square = _pad(crop, side, pad_value)
    return _pad(square, int(side / ratio), pad_value)


def _pad(values: np.ndarray, side: int, pad_value: int) -> np.ndarray:
    height, width, channels = values.shape
    canvas = np.full((side, side, channels), pad_value, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = values
    return canvas
