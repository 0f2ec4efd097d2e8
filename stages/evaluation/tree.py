"""A mesh as a tree of boxes: exact nearest points on its triangles, and what can be seen of it."""

from __future__ import annotations

import numpy as np

from stages.evaluation import kernels
from stages.geometry.jit import plain_array

DIRECTIONS = 256
"""Rays with which a point looks for a way out. With 1,024 at most 0.02 % more points find one on
shapes of joined solids, and 0.3 % more in a helmet with narrow gaps."""
OWN_SURFACE = 1e-4
"""Hits nearer than this share of the mesh' size are the point's own surface."""


class TriangleTree:
    """vertices (V, 3) float, faces (F, 3) int, in one frame and unit.

    Faces without area are left out. Raises ValueError if none has area.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        corners = np.asarray(vertices, np.float64)[faces]
        kept = np.flatnonzero(_has_area(corners))
        if not len(kept):
            raise ValueError("the mesh has no area")
        order = _order(corners[kept].mean(axis=1))
        self._ids = kept[order]
        corners = corners[self._ids]
        self._low, self._high = _boxes(corners)
        corners[:, 1:] -= corners[:, :1]
        self._corners = plain_array(corners, np.float64)
        self._size = float((self._high[0] - self._low[0]).max())

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) distance of (n, 3) points to the mesh, and (n,) id of the nearest face."""
        rows = np.empty(len(points), np.int64)
        squared = np.empty(len(points), np.float64)
        kernels.nearest(
            plain_array(points, np.float64), self._corners, self._low, self._high, rows, squared
        )
        return np.sqrt(squared), self._ids[rows]

    def seen_from_outside(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool for (n, 3) points on the mesh: some straight line leads from it to infinity."""
        free = np.empty(len(points), np.uint8)
        kernels.escapes(
            plain_array(points, np.float64),
            _directions(DIRECTIONS),
            self._corners,
            self._low,
            self._high,
            OWN_SURFACE * self._size,
            free,
        )
        return free.astype(bool)


def _has_area(corners: np.ndarray) -> np.ndarray:
    """(F,) bool for (F, 3, 3) corners: the nearest point of the others has a finite formula."""
    e, f = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    longest = np.maximum((e**2).sum(axis=1), (f**2).sum(axis=1))
    return np.linalg.norm(np.cross(e, f), axis=1) > 1e-10 * longest


def _order(centres: np.ndarray) -> np.ndarray:
    """Halve (F, 3) centres along their box' longest side until LEAF are left.

    Returns rows by leaf; the last one is repeated to fill the tree.
    """
    count = len(centres)
    leaves = 1
    while leaves * kernels.LEAF < count:
        leaves *= 2
    order = np.minimum(np.arange(leaves * kernels.LEAF), count - 1)
    nodes = 1
    while nodes < leaves:
        groups = order.reshape(nodes, -1)
        spread = centres[groups]
        axis = np.argmax(spread.max(axis=1) - spread.min(axis=1), axis=1)
        keys = np.take_along_axis(spread, axis[:, None, None], axis=2)[..., 0]
        halves = np.argpartition(keys, groups.shape[1] // 2, axis=1)
        order = np.take_along_axis(groups, halves, axis=1).ravel()
        nodes *= 2
    return order


def _boxes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3, 3) triangles by leaf -> low and high corners of all nodes, root first."""
    groups = corners.reshape(-1, kernels.LEAF * 3, 3)
    lows, highs = [groups.min(axis=1)], [groups.max(axis=1)]
    while len(lows[0]) > 1:
        lows.insert(0, lows[0].reshape(-1, 2, 3).min(axis=1))
        highs.insert(0, highs[0].reshape(-1, 2, 3).max(axis=1))
    return np.concatenate(lows), np.concatenate(highs)


def _directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors, any first few of them evenly spread; no component is 0.

    Steps of the plastic number's inverse powers (Roberts, "The unreasonable effectiveness of
    quasirandom sequences", 2018) over height and turn.
    """
    steps = np.arange(1, count + 1)
    height = 1.0 - 2.0 * (steps * 0.7548776662466927 % 1.0)
    turn = 2.0 * np.pi * (steps * 0.5698402909980532 % 1.0)
    flat = np.sqrt(1.0 - height**2)
    return np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], axis=1)
