"""What the shapes of regions in a mask say: areas, outlines, ellipses, circles.

All masks are (h, w) bool.
"""

from __future__ import annotations

import cv2
import numpy as np

CONCENTRIC = 0.06
"""How far off the middle of its part the hole of a drawn ring may be, of the part's size."""

ELLIPSE = 0.93
"""Overlap with its best ellipse (intersection over union) from which a shape is one."""

ROUND = 0.85
"""Share of the smallest circle around it that a round shape fills."""

_SMALL = np.ones((3, 3), np.uint8)


def fill(mask: np.ndarray) -> np.ndarray:
    """`mask` with all that it encloses; diagonal neighbours enclose."""
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    labels = cv2.connectedComponents(padded, connectivity=4)[1]
    filled: np.ndarray = (labels != labels[0, 0])[1:-1, 1:-1]
    return filled


def share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum()) / max(1.0, float(whole.sum()))


def longest_side(mask: np.ndarray) -> int:
    """Longest side of the bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1


def is_ellipse(shape: np.ndarray) -> bool:
    contours, _ = cv2.findContours(shape.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)
    if len(outline) < 5:
        return True
    drawn = np.zeros(shape.shape, np.uint8)
    cv2.ellipse(drawn, cv2.fitEllipse(outline), 1, -1)
    ellipse = drawn > 0
    return float((ellipse & shape).sum()) > ELLIPSE * float((ellipse | shape).sum())


def have_same_middle(hole: np.ndarray, around: np.ndarray) -> bool:
    """Whether two round shapes have the same middle."""
    middles = []
    for shape in (hole, around):
        points = cv2.findNonZero(shape.astype(np.uint8))
        middle, radius = cv2.minEnclosingCircle(points)
        if shape.sum() < ROUND * np.pi * radius**2:
            return False
        middles.append(np.array(middle))
    size = 2.0 * radius
    return bool(np.linalg.norm(middles[0] - middles[1]) < CONCENTRIC * size)


def is_in_the_middle(piece: np.ndarray, around: np.ndarray) -> bool:
    """Whether a piece of any shape lies in the middle of a round one."""
    middle, radius = cv2.minEnclosingCircle(cv2.findNonZero(around.astype(np.uint8)))
    if around.sum() < ROUND * np.pi * radius**2:
        return False
    rows, columns = np.nonzero(piece)
    off = np.hypot(columns.mean() - middle[0], rows.mean() - middle[1])
    return bool(off < CONCENTRIC * 2.0 * radius)


def rim_of(piece: np.ndarray) -> np.ndarray:
    """The pixels of a piece that border on others."""
    rim: np.ndarray = piece & ~(cv2.erode(piece.astype(np.uint8), _SMALL) > 0)
    return rim


def distance_to(region: np.ndarray) -> np.ndarray:
    """Distance of each pixel to `region`, in pixels."""
    padded = np.pad(~region, 1)  # beyond the picture is outside
    distance = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 5)
    return distance[1:-1, 1:-1]
