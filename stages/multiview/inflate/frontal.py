"""What turns nothing but a flat front to the camera shows nothing of its depth.

The network then tells one between a card's and a cube's, and that it is not certain: doors, signs
and telephones would be blocks as deep as broad. Of the rectangular and framed things that people
show straight from the front, most are flat: screens, paintings, cards, doors, books, windows,
signs. A cupboard becomes flat with them. What is seen in part from a side or from above, and what
is rounded, tells its depth, and is left as it is told.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.models.sketch_net.predict import Sketch
from stages.multiview.inflate.around import Around
from stages.multiview.inflate.squeeze import Axis, axis_between, squeezed
from stages.multiview.inflate.standing import leaning

TOWARDS = 0.95
"""Cosine between a normal and the optical axis from which on a surface faces the camera."""
FLAT = (0.35, 0.45)
"""Share of the object that faces the camera, from which to which the bound sets in."""
UNSURE = (0.6, 0.5)
"""The network's median certainty of the thickness, likewise. What shows its sides has .85."""
STRAIGHT = (0.9, 0.97)
"""Cosine between the mirror plane's normal and the picture's horizontal, likewise."""
HIGH = (20.0, 14.0)
"""Degrees that the camera stands above or below the object, likewise."""
RECTANGULAR, FRAMED = 0.35, 0.25
"""Depth over breadth at most, of a rectangle and of what is framed."""
FILLED = (0.88, 0.94)
"""Share of the rectangle round an object that it fills, from which to which it is one."""
ENCLOSED = (0.25, 0.35)
"""Share of the object that lies within a frame, from which to which it is framed: screens, windows
and paintings have .35 to .75, houses with windows and faces up to .25."""


def flattened(
    front: np.ndarray, back: np.ndarray, known: np.ndarray, told: Sketch, around: Around
) -> tuple[np.ndarray, np.ndarray]:
    """`front` and `back`, brought together and stood upright where nothing tells that the object is
    deep. Its back is plain then: what the network tells of it is a faint copy of the front.

    front, back  (256, 256) depths towards the camera, half widths of the picture; front >= back
    known        (256, 256) bool, not empty: where the object is
    told         what the network says of the picture
    around       the object's front, by what ends on it
    """
    framed = _ramp(float(around.enclosed[known].mean()), ENCLOSED)
    breadth, filled = _rectangle(known)
    share = _shows_a_front_alone(told, known) * max(framed, _ramp(filled, FILLED))
    if share == 0.0:
        return front, back
    deepest = breadth * (RECTANGULAR + framed * (FRAMED - RECTANGULAR))
    axis = axis_between(front, back, known)
    upright = Axis(axis.level, 0.0, float(np.tan(np.deg2rad(BUNDLE_ELEVATION + leaning(told)))))
    front, back = squeezed(front, back, known, (axis, upright), deepest, share)
    plain = upright.depths(len(back))
    plain += np.median((back - plain)[known])
    return front, back + share * (plain - back)


def _shows_a_front_alone(told: Sketch, known: np.ndarray) -> float:
    """How far an object shows a flat front and nothing else, 0 to 1."""
    values = (
        (float((told.normal[known][:, 2] > TOWARDS).mean()), FLAT),
        (float(np.median(told.certainty[known])), UNSURE),
        (abs(float(told.mirror[0])), STRAIGHT),
        (abs(float(np.degrees(told.elevation))), HIGH),
    )
    return float(np.prod([_ramp(value, bounds) for value, bounds in values]))


def _rectangle(known: np.ndarray) -> tuple[float, float]:
    """Of the rectangle round an object its breadth in half widths, and the share that it fills."""
    rows, columns = np.nonzero(known)
    _, sides, _ = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    short, long = sorted(side + 1.0 for side in sides)
    return short * 2.0 / len(known), float(known.sum() / (short * long))


def _ramp(value: float, bounds: tuple[float, float]) -> float:
    """0 at the first bound and before, 1 at the second and beyond."""
    begin, end = bounds
    return min(max((value - begin) / (end - begin), 0.0), 1.0)
