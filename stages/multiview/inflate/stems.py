"""Stems stand straight: legs of tables, poles of lamps, stalks.

On a part of a few pixels the network tells depths and normals worst, and what is brought together
of them wavers: from the side a pole is an S. A thin part that stands in the picture is moved in
depth, row by row, onto a straight line. Its slope is that of an upright, if the camera's height is
known, and at most a little off it.
"""

from __future__ import annotations

import cv2
import numpy as np

THIN = 8
"""Pixels of 256: the radius of a disc that does not fit into a thin part."""
LEAST_ROWS, ASPECT = 14, 2.5
"""Rows of a stem, and its length over its breadth, at least."""
STANDS = 75.0
"""Degrees from the horizontal from which on a part stands: what lies may be a table's top."""
OFF = 15.0
"""Degrees by which a stem may lean in depth from the upright."""
STEP = 0.08
"""Half widths between the depths of a stem and of what it touches: more is behind it or before it,
and it does not grow out of that."""
JOIN = 6.0
"""Pixels over which a stem goes over into what it grows out of."""


def straightened(
    front: np.ndarray, back: np.ndarray, known: np.ndarray, elevation: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """`front` and `back`, each moved onto a straight line where they are a stem.

    front, back  (S, S) depths towards the camera, half widths of the picture
    known        (S, S) bool: where the object is
    elevation    of the camera above the ground, radians; None: not known
    """
    size = len(front)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * THIN + 1,) * 2)
    padded = np.pad(known.astype(np.uint8), THIN + 1)
    thick = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)
    near_thick = cv2.dilate(thick, np.ones((5, 5), np.uint8))
    beside = near_thick[THIN + 1 : -THIN - 1, THIN + 1 : -THIN - 1] > 0
    count, labels = cv2.connectedComponents((known & ~beside).astype(np.uint8), connectivity=8)
    near, far = np.zeros_like(front), np.zeros_like(front)
    for label in range(1, count):
        part = labels == label
        if _is_stem(part):
            share = _share(front, part, known & ~part)
            near += share * _shift(front, part, elevation, 2.0 / size)
            far += share * _shift(back, part, elevation, 2.0 / size)
    return front + near, np.minimum(back + far, front + near)


def _is_stem(part: np.ndarray) -> bool:
    """Whether a thin part, (S, S) bool and not empty, is long and stands."""
    rows, columns = np.nonzero(part)
    if rows.max() - rows.min() + 1 < LEAST_ROWS:
        return False
    box = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    corners = cv2.boxPoints(box)
    edges = corners[1:3] - corners[:2]
    lengths = np.linalg.norm(edges, axis=1) + 1.0
    along = edges[lengths.argmax()]
    steep = np.degrees(np.arctan2(abs(along[1]), abs(along[0])))
    return bool(lengths.max() >= ASPECT * lengths.min() and steep >= STANDS)


def _share(front: np.ndarray, part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(S, S) in [0, 1] of the move that a stem makes: none where it grows out of the rest."""
    around = np.maximum(cv2.blur(rest.astype(np.float64), (5, 5)), 1e-6)
    other = cv2.blur(np.where(rest, front, 0.0), (5, 5)) / around
    beside = cv2.dilate(rest.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    grows = part & beside & (np.abs(other - front) < STEP)
    share = part.astype(np.float64)
    if grows.any():
        away = cv2.distanceTransform((~grows).astype(np.uint8), cv2.DIST_L2, 5)
        share *= np.clip(away / JOIN, 0.0, 1.0)
    return share


def _shift(
    depth: np.ndarray, part: np.ndarray, elevation: float | None, pixel: float
) -> np.ndarray:
    """(S, 1) by which each row of a stem is off its line. pixel: in half widths."""
    across = part.sum(axis=1)
    rows = np.flatnonzero(across)
    means = np.where(part, depth, 0.0).sum(axis=1)[rows] / across[rows]
    up = -rows * pixel
    upright = 0.0 if elevation is None else elevation
    least, most = np.tan(upright + np.deg2rad([-OFF, OFF]))
    slope = np.clip(_slope(up, means), least, most)
    shift = np.zeros((len(part), 1))
    shift[rows, 0] = np.median(means - slope * up) + slope * up - means
    return shift


def _slope(up: np.ndarray, depths: np.ndarray) -> float:
    """Of the line through the means of both ends' thirds: what wavers between does not count."""
    third = max(1, len(up) // 3)
    rise = up[:third].mean() - up[-third:].mean()
    return float((depths[:third].mean() - depths[-third:].mean()) / rise)
