"""Bring the front and the back of what is told too deep together, about the plane between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ENDS = 0.02
"""Share of the pixels at either end of the depths that does not count."""


@dataclass(frozen=True)
class Axis:
    """A plane of depths: `level` in the picture's middle, and so much more a half width across and
    upwards."""

    level: float
    across: float
    upwards: float

    def depths(self, size: int) -> np.ndarray:
        """(size, size) float64, half widths of the picture, towards the camera."""
        across, up = _positions(size)
        return np.asarray(self.level + self.across * across + self.upwards * up)


def axis_between(front: np.ndarray, back: np.ndarray, known: np.ndarray) -> Axis:
    """The plane that fits best midway between (S, S) depths `front` and `back`, in half widths of
    the picture, where `known` (S, S) bool."""
    across, up = _positions(len(front))
    terms = np.stack([np.ones(int(known.sum())), across[known], up[known]], axis=1)
    return Axis(*np.linalg.lstsq(terms, ((front + back) / 2.0)[known])[0].tolist())


def squeezed(
    front: np.ndarray,
    back: np.ndarray,
    known: np.ndarray,
    axes: tuple[Axis, Axis],
    deepest: float,
    share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """`front` and `back` at most `deepest` apart, from the foremost to the last.

    front, back  (S, S) depths towards the camera, half widths of the picture; front >= back
    known        (S, S) bool, not empty: where the object is
    axes         the plane that they lie about, and the one that they shall lie about
    share        how far that is to be done, 0 to 1
    """
    told, new = (axis.depths(len(front)) for axis in axes)
    near, far = front - told, back - told
    depth = np.quantile(near[known], 1.0 - ENDS) - np.quantile(far[known], ENDS)
    scale = 1.0 - share * (1.0 - min(1.0, deepest / depth))
    axis = told + share * (new - told)
    return axis + scale * near, axis + scale * far


def _positions(size: int) -> list[np.ndarray]:
    steps = (np.arange(size) + 0.5) * 2.0 / size - 1.0
    return list(np.meshgrid(steps, -steps))
