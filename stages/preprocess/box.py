"""Rectangles in pixel coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """Edges of a rectangle: pixel i spans [i, i + 1), so right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def longest(self) -> float:
        return max(self.width, self.height)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of an array; the edges have to be whole numbers."""
        return slice(int(self.top), int(self.bottom)), slice(int(self.left), int(self.right))

    def grown(self, margin: float) -> Box:
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)

    def within(self, width: int, height: int) -> Box:
        """The part inside a picture of `width` x `height`."""
        return Box(
            max(0, self.left), max(0, self.top), min(width, self.right), min(height, self.bottom)
        )

    def outward(self) -> Box:
        """The smallest box of whole pixels around this one."""
        return Box(
            math.floor(self.left),
            math.floor(self.top),
            math.ceil(self.right),
            math.ceil(self.bottom),
        )

    def moved(self, dx: float, dy: float) -> Box:
        return Box(self.left + dx, self.top + dy, self.right + dx, self.bottom + dy)


def bounding_box(mask: np.ndarray) -> Box | None:
    """Smallest box around the True pixels of `mask` (h, w), None without any."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
