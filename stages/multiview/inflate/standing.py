"""What was seen from above leans back in the bundle's frame, whose front camera is 5 degrees high.

The network tells how high the camera stood. Turned about its side axis by the difference, a chair
stands on its legs again, and all four views show it from where the bundle's cameras are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.multiview.inflate.sheets import Body

LEAST = 12.0
"""Degrees of leaning from which a body is stood up: less is hardly seen, and as the front view is
then no longer the picture itself, it would cost more than it gives."""
MOST = 28.0
"""Degrees of leaning from which it is left as it is: seen from further above it shows little of its
front, and a face is easily taken for a plate or a bowl."""
UPWARDS = -6.0
"""Degrees of elevation from which on a camera may be level: lower ones look up at the object."""


def leaning(elevation: float) -> float:
    """Degrees by which a body leans back that a camera saw from `elevation` radians; 0 where it is
    left as it is."""
    degrees = float(np.degrees(elevation)) - BUNDLE_ELEVATION
    return degrees if LEAST <= degrees <= MOST else 0.0


def shows_ground(elevation: float) -> bool:
    """Whether what a camera saw from `elevation` radians tells where the ground is."""
    degrees = float(np.degrees(elevation))
    return UPWARDS <= degrees <= MOST + BUNDLE_ELEVATION


def stood_up(body: Body, degrees: float) -> Body:
    """The body turned about frame W's x axis, its top away from the front camera, and its box in
    the middle again."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    vertices = body.vertices.astype(np.float64) @ turn.T
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle = (low + high) / 2.0
    middle[0] = 0.0  # where the picture has it
    return replace(
        body,
        vertices=(vertices - middle).astype(np.float32),
        normals=(body.normals @ turn.T.astype(np.float32)).astype(np.float32),
    )
