"""Re-centring: the object on a square canvas, its longest side a fixed share of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.preprocess.box import Box, bounding_box

MIN_SIDE = 512
"""Smallest canvas: the side that the multiview VAE and Redux resize to. A smaller one would only
be enlarged later, a larger one would invent detail."""


@dataclass(frozen=True)
class Canvas:
    """Where an object goes.

    side   of the square canvas, pixels
    scale  canvas pixels per picture pixel
    """

    side: int
    scale: float


def plan_canvas(longest: float, ratio: float, max_side: int) -> Canvas:
    """Canvas for an object of `longest` pixels: its own resolution, within [512, max_side]."""
    side = min(max(round(longest / ratio), MIN_SIDE), max_side)
    return Canvas(side, side * ratio / longest)


def centre(
    image: np.ndarray, alpha: np.ndarray, side: int, threshold: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Move the object to the middle of a white `side` x `side` canvas.

    image (H, W, 3) on white and alpha (H, W), uint8, at the canvas's scale; the middle is that of
    the bounding box of alpha > threshold. Returns (S, S, 3) and (S, S, 1) uint8, None without any
    such pixel.
    """
    box = bounding_box(alpha > threshold)
    if box is None:
        return None
    left = round((side - box.width) / 2 - box.left)
    top = round((side - box.height) / 2 - box.top)
    height, width = alpha.shape
    target = Box(left, top, left + width, top + height).within(side, side)
    source = target.moved(-left, -top)
    canvas = np.full((side, side, 3), 255, np.uint8)
    coverage = np.zeros((side, side, 1), np.uint8)
    canvas[target.slices] = image[source.slices]
    coverage[target.slices] = alpha[source.slices][..., None]
    return canvas, coverage
