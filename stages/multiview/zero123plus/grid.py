"""The 2 x 2 picture that the model draws, and the four views that the stage hands on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.multiview.zero123plus.params import VIEW_SIDE

FRONT_LEFT_BACK_RIGHT = (3, 0, 1, 2)
"""Which tile of the grid, counted by rows, is which view (docs/reference.md)."""


def views_of(grid: np.ndarray) -> np.ndarray:
    """(2 S, 2 S, 3) uint8 -> front, left, back, right (4, 512, 512, 3) uint8.

    Tiles of another size than 512 are resized (Lanczos).
    """
    side = grid.shape[0] // 2
    tiles = grid.reshape(2, side, 2, side, 3).swapaxes(1, 2).reshape(4, side, side, 3)
    views = tiles[list(FRONT_LEFT_BACK_RIGHT)]
    if side == VIEW_SIDE:
        return np.ascontiguousarray(views)
    size = (VIEW_SIDE, VIEW_SIDE)
    resized = [Image.fromarray(view).resize(size, Image.Resampling.LANCZOS) for view in views]
    return np.stack([np.asarray(view) for view in resized])
