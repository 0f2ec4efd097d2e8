"""What is drawn in thin lines alone is a wire: a pair of glasses, a paper clip, a hoop.

Of lines of a few pixels the network tells neither depth nor thickness: glasses became ragged
ribbons three times as deep as wide. Where all of an object is thin, lines are given the round
section of a wire, and lie in depth as the network tells on average round about. One broad part, as
a saddle or a lamp's shade, and the picture tells more than that: then nothing is changed. The
front of a table, whose top is thin and deep, is .1 as thick as long.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import maximum_filter

THIN = (0.06, 0.085)
"""Breadth of the broadest part over the object's length, from which to which this fades out."""
AROUND = 40.0
"""Pixels of 256 over which depths are averaged along the lines."""
NARROWEST = 1.0
"""Pixels: half the breadth of a line at least."""


def wired(front: np.ndarray, back: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`front` and `back` of an object that is thin lines alone, with a round section.

    front, back  (S, S) depths towards the camera, half widths of the picture
    known        (S, S) bool, not empty: where the object is
    """
    inside = np.pad(known, 1).astype(np.uint8)
    edge = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1].astype(np.float64)
    rows, columns = np.nonzero(known)
    length = max(np.ptp(rows), np.ptp(columns)) + 1.0
    broadest = float(edge.max())
    share = float(np.interp(2.0 * broadest / length, THIN, (1.0, 0.0)))
    if share == 0.0:
        return front, back
    radius = maximum_filter(edge, 2 * int(np.ceil(broadest)) + 1)
    radius = np.maximum(_averaged(radius, known, broadest), NARROWEST)
    inwards = np.clip(radius - edge, 0.0, radius)
    half = np.sqrt(radius**2 - inwards**2) * (2.0 / len(front))
    middle = _averaged((front + back) / 2.0, known, AROUND * len(front) / 256.0)
    return front + share * (middle + half - front), back + share * (middle - half - back)


def _averaged(values: np.ndarray, known: np.ndarray, sigma: float) -> np.ndarray:
    """(S, S) means of the known values round about."""
    weight = cv2.GaussianBlur(known.astype(np.float64), (0, 0), sigma)
    blurred = cv2.GaussianBlur(np.where(known, values, 0.0), (0, 0), sigma)
    return np.asarray(blurred / np.maximum(weight, 1e-12))
