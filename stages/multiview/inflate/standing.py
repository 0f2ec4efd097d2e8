"""What was seen from above leans back in the bundle's frame, whose front camera is 5 degrees high,
and what was seen from its own height leans forward.

The network tells how high the camera stood. Turned about its side axis by the difference, a chair
stands on its legs again, and all four views show it from where the bundle's cameras are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.models.sketch_net.predict import Sketch
from stages.multiview.inflate.sheets import Body

LEAST = 3.0
"""Degrees of leaning from which a body is stood up: less is not seen."""
MOST = 40.0
"""Degrees of leaning from which it is left as it is: seen from further above it shows too little of
its sides. Boxes that lean by 35 degrees stand well; of cups and drums by 55 only shreds do."""
DOUBT, DOUBT_IN_FRONT, MOST_DOUBT = 0.65, 0.4, 20.0
"""Expected error of the elevation, as a share of the leaning, and in degrees, from which a body is
left as it is: a face may be a plate that is seen from above, a sword stands on no ground. Straight
from the front no edge recedes that would tell: 4 of 6 such pictures with a share between .4 and .6
showed things from their own height, of 3 oblique ones none."""
IN_FRONT, LIKELY = np.cos(np.deg2rad(10.0)), 0.4
"""Cosine between the mirror plane's normal and the picture's horizontal, and certainty of that
plane, from which on an object is seen straight from its front."""
UPWARDS = -6.0
"""Degrees of elevation from which to 0 a camera is level: lower ones look up at the object. Above 0
it may stand as high as the bundle's: a table that is seen from 5 degrees is told to be from 0.4."""
SURE = 2.5
"""Degrees of expected error up to which the ground has the told slant, as the front's depths have.
Else the base is level in the bundle's frame, that of a body that is left as it is too."""
GROUNDED = 12.0
"""Degrees of expected error up to which the elevation tells where the ground is."""


@dataclass(frozen=True)
class Ground:
    """How an object's ground lies.

    below  degrees by which the camera looks down on it
    level  whether it is level in the bundle's frame once the object stands as it will
    """

    below: float
    level: bool


def leaning(told: Sketch) -> float:
    """Degrees by which a body leans back of which the network told this, negative: forward; 0 where
    it is left as it is."""
    degrees, error = np.degrees([told.elevation, told.elevation_error]).tolist()
    level = UPWARDS <= degrees <= 0.0
    degrees = -BUNDLE_ELEVATION if level else degrees - BUNDLE_ELEVATION
    in_front = told.mirror_certainty >= LIKELY and abs(told.mirror[0]) >= IN_FRONT
    doubt = DOUBT_IN_FRONT if in_front and not level else DOUBT
    sure = error <= min(doubt * abs(degrees), MOST_DOUBT)
    return degrees if sure and (level or LEAST <= degrees <= MOST) else 0.0


def ground_under(told: Sketch) -> Ground | None:
    """The ground that the object stands on, before it is stood up; None where what the network saw
    does not tell where it is."""
    degrees, error = np.degrees([told.elevation, told.elevation_error]).tolist()
    if not UPWARDS <= degrees <= MOST + BUNDLE_ELEVATION or error > GROUNDED:
        return None
    level = BUNDLE_ELEVATION + leaning(told)
    below = max(degrees, 0.0) if error <= SURE else level
    return Ground(below, abs(below - level) < LEAST)


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
