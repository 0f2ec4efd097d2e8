"""What the sketch's network might say of a picture, without the network."""

from __future__ import annotations

import numpy as np

from stages.models.sketch_net import SIDE
from stages.models.sketch_net.predict import Sketch


def grey_plate() -> Sketch:
    """A grey plate that fills the picture, faces the camera and is half as thick as the picture is
    wide; seen from its own height and its front, of which the network is certain."""
    ones, normal = np.ones((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE, 3), np.float32)
    normal[..., 2] = 1.0
    grey = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    return Sketch(
        alpha=ones,
        front=0.0 * ones,
        front_error=0.02 * ones,
        normal=normal,
        thickness=ones,
        certainty=ones,
        albedo=grey,
        behind_normal=-normal,
        behind_albedo=grey,
        elevation=0.0,
        elevation_error=0.03,
        mirror=np.array([1.0, 0.0, 0.0], np.float32),
        mirror_certainty=0.0,
    )
