"""What is slender in the picture is not deep: pencils, bottles, candles.

The network sees slender things seldom, and those without shading tell it nothing: a pencil became a
plank, ten times as deep as wide, and bent. Few things are slender from their front and deep, and
most of those lie: a book or a tray that is seen from its edge.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.multiview.inflate.squeeze import Axis, axis_between, squeezed

SLENDER, LYING = (0.3, 0.4), (0.08, 0.12)
"""Breadth over length from which to which the bound fades out, of what stands or leans, and of what
lies."""
LIES = 30.0
"""Degrees between the length and the horizontal up to which a thing lies."""
DEEPEST = 1.2
"""Depth over breadth at most."""
TURNED, MORE = 15.0, 5.0
"""Degrees by which the length may run into the picture sideways; and by which it may lean more than
the told elevation says."""


def bounded(
    front: np.ndarray, back: np.ndarray, known: np.ndarray, leaning: float
) -> tuple[np.ndarray, np.ndarray]:
    """`front` and `back`, brought together and straightened where the object is slender.

    front, back  (S, S) depths towards the camera, half widths of the picture; front >= back
    known        (S, S) bool, not empty: where the object is
    leaning      by which the object is known to lean, radians
    """
    breadth, share = _slenderness(known)
    if share == 0.0:
        return front, back
    told = axis_between(front, back, known)
    side, lean = np.tan([np.deg2rad(TURNED), leaning + np.deg2rad(MORE)]).tolist()
    straight = Axis(
        told.level, min(max(told.across, -side), side), min(max(told.upwards, -lean), lean)
    )
    return squeezed(front, back, known, (told, straight), DEEPEST * breadth, share)


def _slenderness(known: np.ndarray) -> tuple[float, float]:
    """Breadth of the object in half widths, and how far the bound holds, 0 to 1."""
    rows, columns = np.nonzero(known)
    _, sides, _ = box = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    short, long = sorted(side + 1.0 for side in sides)
    corners = cv2.boxPoints(box)
    edges = corners[1:3] - corners[:2]
    along = edges[np.linalg.norm(edges, axis=1).argmax()]
    lies = np.degrees(np.arctan2(abs(along[1]), abs(along[0]))) < LIES
    share = np.interp(short / long, LYING if lies else SLENDER, (1.0, 0.0))
    return short * 2.0 / len(known), float(share)
