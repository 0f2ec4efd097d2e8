"""What is object in a bundle: silhouettes of its normal tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Matting = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 sRGB -> (H, W) uint8 mask, 255 = object."""
MATTING_THRESHOLD = 127
MIN_ISLAND = 64
"""Pixels of a 512 tile; smaller specks of a silhouette on white are noise."""


def to_image(mask: np.ndarray) -> np.ndarray:
    """(K, S, S) bool -> (K, S, S, 1) uint8, 255 = object, as `bundle_mask` is."""
    return np.where(mask, np.uint8(255), np.uint8(0))[..., None]


def silhouettes(normal_tiles: np.ndarray, matting: Matting | None, tolerance: float) -> np.ndarray:
    """(K, S, S, 3) float normal tiles in [0, 1] on white -> (K, S, S) bool.

    matting    the network that tells objects apart, or None: what is not white is object
    tolerance  how far from white is still background, without a network
    """
    if matting is None:
        from stages.geometry.masks import foreground

        return foreground(normal_tiles, tolerance, MIN_ISLAND)
    # The reference truncates too.
    pixels = (normal_tiles * 255.0).astype(np.uint8)
    return np.stack([matting(tile) > MATTING_THRESHOLD for tile in pixels])
