"""A bundle taken apart, with errors that say what is wrong with it."""

from __future__ import annotations

import numpy as np

from stages.contract import BadInput
from stages.geometry.bundle import split
from stages.geometry.masks import foreground

MIN_FOREGROUND = 64
"""A silhouette of fewer pixels than this is a speck, not an object."""


def tiles_of(bundle_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB tiles and normal tiles, (4, S, S, 3) each. Raises BadInput."""
    try:
        return split(bundle_image)
    except ValueError as error:
        raise BadInput(f"bundle: {error}") from error


def outline(normal_tiles: np.ndarray, tolerance: float) -> np.ndarray:
    """The silhouettes (4, S, S) bool of normal tiles (4, S, S, 3) on white: what is farther from it
    than `tolerance`. Raises BadInput where there is nothing."""
    mask = foreground(normal_tiles, tolerance, MIN_FOREGROUND)
    if not mask.any():
        raise BadInput(
            "bundle: its normal tiles are blank, so the object's outline is unknown",
            "look at bundle.png; lower background_tolerance if the object is faintly visible",
        )
    return mask
