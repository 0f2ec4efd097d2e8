"""What lies beside an outline: there surfaces turn away, a fraction of a pixel is much depth, and
the stairs of the grid and of the network's pixels would become ripples and walls.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

BAND = (3.0, 5.0)
"""Nodes from the outline up to which depths are made even along it, and from which on they stay."""
EDGE = 2.0
"""Nodes from the outline within which surfaces are rounded off."""
TURNING = (0.3, 0.8)
"""Depth over breadth of a surface there, from which to which it is: a box's front has 0, a ball's,
a tenth of the picture large, 1.3."""
ALONG, ACROSS, MOST_BESIDE = 4.0, 0.3, 32
"""Nodes along and across the outline over which they are: standard deviations; and how many places
at most."""
EVEN_ROUNDS, STEP = 2, 0.06
"""Rounds of that; scene units between depths of neighbours that are a step, and stay one."""


class Fringe:
    """Those of (M, 2) places that are near an outline (R, 2), both (row, column) in nodes of the
    grid. Depths are along the camera's optical axis, in scene units."""

    def __init__(self, at: np.ndarray, rim_at: np.ndarray) -> None:
        away, outline = KDTree(rim_at).query(at, distance_upper_bound=BAND[1])
        self._near = np.flatnonzero(np.isfinite(away))
        self._at, self._away, self._outline = (values[self._near] for values in (at, away, outline))
        places = np.column_stack([self._at / ALONG, self._away / ACROSS])
        count = np.arange(min(MOST_BESIDE, len(places))) + 1
        apart, self._beside = KDTree(places).query(places, count)
        self._weight = np.exp(-0.5 * apart**2)

    def rounded(
        self, depth: np.ndarray, rim_depth: np.ndarray, steepness: np.ndarray
    ) -> np.ndarray:
        """(M,) depths that from `EDGE` on go over into those of the outline (R,) as a ball's do: as
        the root of the distance. So near to it a picture does not show how a surface turns away,
        and what is told is that of the pixels further in. What is flat there keeps its edge.

        steepness  (M,) of the surface, depth over breadth
        """
        firm = np.flatnonzero(self._away >= EDGE)
        if not len(firm):
            return depth
        gap, inner = KDTree(self._at[firm]).query(self._at)
        inner, end, told = firm[inner], rim_depth[self._outline], depth[self._near]
        made = end + np.sqrt(self._away / self._away[inner]) * (told[inner] - end)
        share = np.interp(steepness[self._near][inner], TURNING, (0.0, 1.0))
        share *= (self._away < EDGE) & (gap <= 2.0 * EDGE)
        return self._with(depth, told + share * (made - told))

    def even(self, depth: np.ndarray) -> np.ndarray:
        """(M,) depths without ripples along the outline: places as far from it take the mean of
        their depths. Steps stay, as of an arm before a body."""
        share = 1.0 - np.interp(self._away, BAND, (0.0, 1.0))
        made = depth[self._near]
        for _ in range(EVEN_ROUNDS):
            beside = made[self._beside]
            weight = self._weight * np.exp(-(((beside - made[:, None]) / STEP) ** 2))
            made = made + share * ((weight * beside).sum(axis=1) / weight.sum(axis=1) - made)
        return self._with(depth, made)

    def _with(self, depth: np.ndarray, made: np.ndarray) -> np.ndarray:
        result = depth.copy()
        result[self._near] = made
        return result
