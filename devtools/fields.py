"""Signed distances of simple solids, negative inside, and what cameras would see of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.geometry.cameras import Camera

Distance = Callable[[np.ndarray], np.ndarray]
"""(..., 3) points of frame W -> (...,) signed distance."""


def sphere(radius: float = 0.7) -> Distance:
    return lambda p: np.linalg.norm(p, axis=-1) - radius


def torus(ring: float = 0.6, tube: float = 0.22) -> Distance:
    """Its axis is z, so its hole is seen from the front."""
    return lambda p: np.hypot(np.linalg.norm(p[..., :2], axis=-1) - ring, p[..., 2]) - tube


def box(x: float = 0.6, y: float = 0.45, z: float = 0.5) -> Distance:
    """With these half sides."""

    def distance(p: np.ndarray) -> np.ndarray:
        q = np.abs(p) - (x, y, z)
        outside = np.linalg.norm(np.maximum(q, 0.0), axis=-1)
        return np.asarray(outside + np.minimum(q.max(axis=-1), 0.0))

    return distance


def gradient(distance: Distance, points: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """(..., 3) unit outward normals by central differences."""
    offsets = step * np.eye(3)
    slope = np.stack([distance(points + o) - distance(points - o) for o in offsets], axis=-1)
    return np.asarray(slope / np.linalg.norm(slope, axis=-1, keepdims=True))


@dataclass(frozen=True)
class Sight:
    """hit (S, S) bool; points (S, S, 3) on the surface, and garbage where nothing is hit."""

    hit: np.ndarray
    points: np.ndarray


def trace(distance: Distance, camera: Camera, size: int) -> Sight:
    """Sphere tracing from a camera: no rasteriser, no mesh."""
    rays = camera.pixel_rays(size)
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).reshape(-1, 3)
    along, going = np.zeros(len(rays)), np.arange(len(rays))
    for _ in range(200):
        step = distance(camera.center + along[going, None] * rays[going])
        along[going] = np.minimum(along[going] + step, 2.0 * camera.radius)
        # Most have arrived, or left, after a few steps; those that graze a surface take all.
        going = going[(np.abs(step) > 1e-9) & (along[going] < 2.0 * camera.radius)]
    points = (camera.center + along[:, None] * rays).reshape(size, size, 3)
    return Sight(np.abs(distance(points)) < 1e-5, points)
