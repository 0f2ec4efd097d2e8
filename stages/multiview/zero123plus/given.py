"""Pictures that the user gave of other sides, in place of the tiles that the model drew of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from stages.multiview.zero123plus.params import VIEW_SIDE

BACK_LEFT_RIGHT = (2, 1, 3)
"""Which view each layer of `given_views` is."""
PAPER = 24
"""Grey levels from white, of 255, up to which the model's background is white."""
LEAST = 0.01
"""Share of a tile's side that a row must show to be one of the object's: others hold specks."""
FILLED = 0.98
"""Of a tile's width, that a picture may take."""


def put_given(views: np.ndarray, given: np.ndarray, warn: Callable[[str], None]) -> np.ndarray:
    """(4, 512, 512, 3) uint8 with the given pictures as high as the front that the model drew, at
    its height, and in the middle of their tiles.

    given  the artifact `given_views`, (3, S, S, 4) uint8
    """
    result = views.copy()
    top, bottom = _rows_of(views[0])
    for view, layer in zip(BACK_LEFT_RIGHT, given, strict=True):
        inside = layer[..., 3] > 127
        if not inside.any():
            continue
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        wide, high = box[2] - box[0], box[3] - box[1]
        scale = (bottom - top) / high
        if scale * wide > FILLED * VIEW_SIDE:
            warn(
                "a given picture is too wide for its tile at the scale of the front that was "
                "drawn, and is smaller than that"
            )
            scale = FILLED * VIEW_SIDE / wide
        size = (max(1, round(scale * wide)), max(1, round(scale * high)))
        # Lanczos rings would darken the paper: what is cut out ends at the object's box.
        picture = Image.fromarray(np.ascontiguousarray(layer[..., :3]))
        drawn = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=box))
        left, above = round((VIEW_SIDE - size[0]) / 2), round((top + bottom - size[1]) / 2)
        above = min(max(above, 0), max(0, VIEW_SIDE - size[1]))
        tile = np.full((VIEW_SIDE, VIEW_SIDE, 3), 255, np.uint8)
        part = tile[above : above + size[1], left : left + size[0]]
        part[...] = drawn[: part.shape[0], : part.shape[1]]
        result[view] = tile
    return result


def _rows_of(tile: np.ndarray) -> tuple[int, int]:
    """First and last row (exclusive) of what a tile shows on white; all of it for an empty one."""
    shown = (255 - tile.astype(np.int16)).max(axis=-1) > PAPER
    rows = np.flatnonzero(shown.sum(axis=1) >= LEAST * VIEW_SIDE)
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, VIEW_SIDE)
