"""The mesh turned to frame W and brought to the bundle's size, as the reference does it: bounding
box around 0, its longest side 2, and that times 0.9."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.mesh_views.surface import Surface

EXTENT = 2.0 * 0.9

_UNIT = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def rotation(up: str, front: str) -> np.ndarray:
    """(3, 3): file axes -> frame W, for axes "+x" ... "-z" on different axes."""
    upward, ahead = _direction(up), _direction(front)
    return np.stack([np.cross(upward, ahead), upward, ahead])


def _direction(axis: str) -> np.ndarray:
    return np.array(_UNIT[axis[1]]) * (-1.0 if axis[0] == "-" else 1.0)


def placed(surface: Surface, up: str, front: str) -> tuple[Surface, np.ndarray]:
    """The surface in frame W, and where it comes from, as the artifact `given_place` has it."""
    turn = rotation(up, front)
    points = surface.points @ turn.T
    low, high = points.min(axis=0), points.max(axis=0)
    middle, scale = (low + high) / 2.0, EXTENT / float((high - low).max())
    normals = surface.normals
    if normals is not None:
        normals = (normals @ turn.T).astype(np.float32)
    place = np.array([*middle, scale], np.float64)
    return replace(surface, points=(points - middle) * scale, normals=normals), place
