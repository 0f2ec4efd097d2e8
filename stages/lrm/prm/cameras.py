"""The model's own frame, and the cameras as it is told them.

Frame T (triplane): z up, azimuth 0 on +x, 90 on +y. Frame W (all meshes between stages): y up,
azimuth 0 on +z, 90 on +x. An azimuth is the same camera in both (docs/reference.md, "Frames
and cameras").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.geometry.camera_rig import BUNDLE_ELEVATION, FOVY
from stages.geometry.cameras import Camera

CONDITION_RADIUS = 3.5
"""Camera distance that the model is told for every input view, whatever it really was."""
INPUT_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
FROM_ZERO123 = (1, 2, 3, 0)
"""Which of `views` (front, left, back, right) the model is given for each of INPUT_AZIMUTHS when
the views come from Zero123++. The model takes the tiles of that model's grid in grid order, and the
front is the grid's last tile: it stands at azimuth 270."""
ZERO123_FRONT = 270.0
"""Azimuth at which the front stands in the mesh that is made of `views`."""


def t_to_w(points: np.ndarray) -> np.ndarray:
    """(..., 3) points or directions of frame T in frame W: (x, y, z) -> (y, z, x)."""
    return np.ascontiguousarray(points[..., [1, 2, 0]])


def w_to_t(points: np.ndarray) -> np.ndarray:
    """(..., 3) points or directions of frame W in frame T: (X, Y, Z) -> (Z, X, Y)."""
    return np.ascontiguousarray(points[..., [2, 0, 1]])


def condition_vectors(
    azimuths: Sequence[float] = INPUT_AZIMUTHS,
    elevation: float = BUNDLE_ELEVATION,
    radius: float = CONDITION_RADIUS,
    fovy: float = FOVY,
) -> np.ndarray:
    """(V, 16) float32: what the encoder is told of each view's camera.

    The first three rows of the camera-to-world matrix in frame T, row by row (columns: right, up,
    back, centre), then fx, fy, cx, cy in units of the image's size.
    """
    vectors = []
    for azimuth in azimuths:
        camera = Camera(azimuth, elevation, radius, fovy)
        columns = np.column_stack([camera.axes, camera.center])  # frame W
        rows = w_to_t(columns.T).T
        focal = camera.focal / 2.0  # an image is 2 wide in NDC
        vectors.append(np.concatenate([rows.ravel(), (focal, focal, 0.5, 0.5)]))
    return np.asarray(vectors, np.float32)
