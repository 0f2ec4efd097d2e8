"""Normals of a view that comes without: those that a network tells, or of the outline, inflated."""

from __future__ import annotations

import cv2
import numpy as np

from stages.geometry.cameras import Camera, encode_normals
from stages.geometry.silhouette_membrane import membrane

SIDE = 128
"""At which the outline is inflated, pixels."""
REACH = 0.5
"""Of the membrane, scene units: half of what no part is thicker than. 0.15, which has a plateau
behind a round rim, makes a teapot of four outlines worse by a third, and a chair no better."""


def inflated(cover: np.ndarray, camera: Camera) -> np.ndarray:
    """(S, S) coverage -> (S, S, 3) float32 normals in the bundle's encoding, defined everywhere."""
    small = cv2.resize(cover, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small[[0, -1]] = small[:, [0, -1]] = 0.0
    step = 2.0 * camera.radius / (camera.focal * SIDE)
    sheet = membrane(small, step, reach=REACH)
    f = sheet.solve(np.full((SIDE, SIDE, 1), 4.0), np.zeros((SIDE, SIDE, 1)))[..., 0]
    down, right = np.gradient(f, step)
    # With h = sqrt(f): (-dh/dx, -dh/dy, 1) is parallel to (-df/dx, -df/dy, 2 h), finite at the rim.
    local = np.stack([-right, down, 2.0 * np.sqrt(np.maximum(f, 0.0))], axis=-1)
    local[..., 2] += 1e-6
    return encoded(local, len(cover), camera)


def encoded(local: np.ndarray, size: int, camera: Camera) -> np.ndarray:
    """(N, N, 3) vectors in the camera's axes, of any length but 0, as (size, size, 3) float32
    normals in the bundle's encoding."""
    local = np.asarray(cv2.resize(local, (size, size), interpolation=cv2.INTER_LINEAR))
    local = local / np.linalg.norm(local, axis=-1, keepdims=True)
    return encode_normals(local @ camera.axes.T, camera).astype(np.float32)
