"""Where an object that stands ends below: at the ground, and at the undersides of its parts.

What lies behind the lowest pixels that a camera above the ground sees of a part is seen along rays
that go on downwards. A told back that is a little too far away hangs below the part there, and the
underside slants along the rays: a keel. No part reaches below the lowest edge that is seen of it,
but by what is round there, and none below the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import median_filter

from stages.geometry.masks import nearest_known

LOWEST = 0.5
"""Percentile of the heights that are seen: a few pixels may be wrong."""
CONTACT = 0.04
"""Half widths above the lowest point within which an object is seen to stand."""
BREADTHS = (0.5, 0.75)
"""Share of the object's breadth on which it stands: up to the first it is round below, and reaches
lower than what is seen of it; from the second it has a flat base."""
ALLOWED = 0.01
"""Half widths that a flat base may lie lower than what is seen."""
ROUNDED = 0.08
"""Half widths above a part's lowest edge where its front tells whether it is round below; a bevel
is narrower."""
DOWNWARDS = (0.2, 0.5)
"""How much a front looks down there, the sine: with the first a part is flat below, with the second
it is round, and only the ground ends it."""
JAGS, SMOOTH = 9, 2.0
"""Pixels along a row over which edges' heights are brought together: first their median, which
keeps the step from a leg to a belly, then a blur."""


@dataclass(frozen=True)
class Standing:
    """What a picture shows of an object that stands: (S, S) arrays.

    front      depth towards the camera, half widths of the picture at the object's middle
    normal     (S, S, 3) unit, of the front, in camera axes
    known      bool, not empty: where the object is
    focal      distance of the camera, half widths
    elevation  of the camera above the ground, radians
    """

    front: np.ndarray
    normal: np.ndarray
    known: np.ndarray
    focal: float
    elevation: float


def above_ground(back: np.ndarray, seen: Standing, undersides: bool = True) -> np.ndarray:
    """(S, S) depths `back` of the last surfaces, cut off at the ground and at the undersides.

    undersides  whether the elevation is to be trusted so far: a table's top that is taken to lie
                level and does not gets thin at one end

    The ray of the picture's point (u, v) runs through (s u, s v, f (1 - s)) for growing s. For a
    camera that looks down by e, the height there is s (v cos e - f sin e) + f sin e.
    """
    size, focal, known = len(back), seen.focal, seen.known
    cosine, sine = np.cos(seen.elevation), np.sin(seen.elevation)
    up = 1.0 - (np.arange(size)[:, None] + 0.5) * 2.0 / size
    rise, eye = up * cosine - focal * sine, focal * sine
    heights = (1.0 - seen.front / focal) * rise + eye
    # A ball of this diameter reaches so much below the lowest point that such a ray sees of it.
    steep = np.arctan2(rise, focal * cosine + up * sine)
    hidden = np.median((seen.front - back)[known]) * (1.0 - np.cos(steep)) / 2.0

    lowest = np.percentile(heights[known], LOWEST)
    breadth = _columns(known & (heights < lowest + CONTACT)) / _columns(known)
    floor = lowest - np.interp(breadth, BREADTHS, (1.0, 0.0)) * hidden - ALLOWED
    if undersides:
        downwards = -(cosine * seen.normal[..., 1] + sine * seen.normal[..., 2])
        floor = np.maximum(floor, _undersides(heights, downwards, hidden, known))
    deepest = np.where(rise < 0.0, (floor - eye) / np.minimum(rise, -1e-6), np.inf)
    return np.asarray(np.maximum(back, focal * (1.0 - deepest)))


def _undersides(
    heights: np.ndarray, downwards: np.ndarray, hidden: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """(S, S) heights below which a part does not reach, minus infinity where it is round below.

    heights    (S, S) of the front
    downwards  (S, S) sine by which it looks down
    hidden     (S, 1) what a round part reaches below what is seen of it
    """
    edge, above = _runs(known, round(ROUNDED * len(known) / 2.0))
    turned = cv2.GaussianBlur(downwards, (0, 0), SMOOTH)
    turned = nearest_known(np.take_along_axis(turned, above, axis=0), known)
    turned = cv2.GaussianBlur(turned, (0, 0), 2.0 * SMOOTH, sigmaY=0.5)
    under = nearest_known(np.take_along_axis(heights, edge, axis=0), known)
    under = cv2.GaussianBlur(median_filter(under, (1, JAGS)), (0, 0), SMOOTH, sigmaY=0.5)
    under = under - 2.0 * hidden - np.interp(turned, DOWNWARDS, (0.0, 1.0))
    return np.where(turned < DOWNWARDS[1], under, -np.inf)


def _columns(mask: np.ndarray) -> int:
    """Breadth of a mask that is not empty, pixels."""
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[-1] - columns[0]) + 1


def _runs(known: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the lowest row of the unbroken piece of its column that it lies in, and the
    row that is `height` above that, or the piece's highest; any rows outside of `known`."""
    size = len(known)
    rows = np.arange(size)[:, None]
    after = np.minimum.accumulate(np.where(known, size, rows)[::-1], axis=0)[::-1]
    before = np.maximum.accumulate(np.where(known, -1, rows), axis=0)
    lowest = np.clip(after - 1, 0, size - 1)
    return lowest, np.clip(lowest - height, np.minimum(before + 1, lowest), lowest)
