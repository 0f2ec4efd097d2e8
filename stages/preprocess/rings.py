"""Rings whose segments are in turn coloured and white, on white: lifebuoys.

Their white segments are open to the outside, or enclosed by two thin outlines, and no feature lies
in them. What tells them is the circle: all coloured segments end at the same two radii, at which
the white ones must end too, and what is within the smaller one is the hole.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.preprocess.regions import label_regions

MIN_SEGMENTS = 3
MIN_HOLE = 0.15
"""Radius of the hole, of the ring's: without one the segments may be a propeller."""
COLOURED = (0.25, 0.85)
"""Share of the ring that the coloured segments have; dashes and spokes have less."""
MIXED = 0.15
"""Share of the directions, at the segments' ends, that may be neither coloured nor white."""
MIN_STEPS = 4
"""How wide a ring must be between its rims, of `_RADII` steps: a dashed circle is thinner."""
_DIRECTIONS, _RADII = 360, 64


def join_segments(mask: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool with the gaps of a ring of loose segments closed, if it is one."""
    if label_regions(mask, diagonal=True)[1] < MIN_SEGMENTS:
        return mask
    points = cv2.findNonZero(mask.astype(np.uint8))
    middle, radius = cv2.minEnclosingCircle(points)
    polar = cv2.warpPolar(
        mask.astype(np.uint8) * 255, (_RADII, _DIRECTIONS), middle, radius, cv2.INTER_LINEAR
    )
    seen = polar > 127
    along = seen.mean(axis=0)
    typical = float(np.median(along[along > 0.02])) if (along > 0.02).any() else 0.0
    inner = int(np.argmax(along > 0.5 * typical))
    # Two steps at both radii may be the blurred rim of a picture that was scaled.
    within = seen[:, inner + 2 : _RADII - 2]
    if inner < MIN_HOLE * _RADII or along[: inner - 1].max() > 0.02 or within.shape[1] < MIN_STEPS:
        return mask
    across = within.mean(axis=1)
    full, empty = across > 0.9, across < 0.1
    segments = int(np.count_nonzero(full & ~np.roll(full, 1)))
    if (
        segments < MIN_SEGMENTS
        or not COLOURED[0] <= full.mean() <= COLOURED[1]
        or 1.0 - full.mean() - empty.mean() > MIXED
    ):
        return mask
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    distance = np.hypot(x - middle[0], y - middle[1])
    joined: np.ndarray = mask | ((distance <= radius) & (distance >= inner / _RADII * radius))
    return joined


def is_outlined_ring(segments: np.ndarray, hole: np.ndarray, whole: np.ndarray) -> bool:
    """Whether enclosed pieces, `segments`, are the white ones of a ring around `hole`.

    As a wheel's are not, which has air between thin spokes. All (h, w) bool; `whole` is the
    silhouette, of which hole and silhouette are known to be round and to have the same middle.
    """
    white = float(segments.sum()) / max(1.0, float((whole & ~hole).sum()))
    return COLOURED[0] <= 1.0 - white <= COLOURED[1]
