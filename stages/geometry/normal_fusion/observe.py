"""The bundle as evidence: signed outline distances, world normals and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.geometry.cameras import Camera, decode_normals
from stages.geometry.jit import plain_array
from stages.geometry.threads import in_threads

INSET = 1.0
"""Pixels of a 512 tile next to the outline whose colour is part white."""
WINDOW = 3.0
"""Pixels of a 512 tile: standard deviation of the window in which normals are compared."""
DISAGREE = 0.3
"""1 - |mean normal| of a window at which its pixels count for nothing: at creases and occluding
edges, a slightly wrong depth picks the normal of the wrong surface."""
LEAST_TRUST = 0.05


@dataclass(frozen=True)
class Observations:
    """What K tiles of side S say.

    distance  (K, S, S) float32 signed distance to the outline in pixels, negative inside
    normals   (K, S, S, 3) float32 in frame W, defined beyond the outline too; their length is
              the trust in them, 0 to 1
    views     (K, 13) float64: rotation (columns right, up, back), centre, focal length, for the
              kernels
    """

    distance: np.ndarray
    normals: np.ndarray
    views: np.ndarray


def observe(
    distance: np.ndarray,
    normal_tiles: np.ndarray,
    cameras: tuple[Camera, ...],
    threads: int = 1,
) -> Observations:
    """Decode the normal maps; at the outline, where they are mixed with white, spread the inside.

    distance      (K, S, S) pixels, negative inside
    normal_tiles  (K, S, S, 3) in [0, 1], bundle encoding

    The same for any number of threads.
    """
    normals = np.empty(normal_tiles.shape, np.float32)
    scale = distance.shape[1] / 512.0

    def view(k: int) -> None:
        known = distance[k] < -INSET * scale
        if not known.any():
            known = distance[k] < 0.0
        decoded = decode_normals(normal_tiles[k].astype(np.float64), cameras[k]).astype(np.float32)
        filled = np.where(known[..., None], decoded, _spread(decoded, known, scale))
        mean = cv2.GaussianBlur(filled, (0, 0), WINDOW * scale)
        spread = 1.0 - np.linalg.norm(mean, axis=-1, keepdims=True)
        normals[k] = filled * np.clip(1.0 - spread / DISAGREE, LEAST_TRUST, 1.0)

    in_threads(view, range(len(cameras)), threads)
    views = np.stack([np.concatenate([c.axes.ravel(), c.center, [c.focal]]) for c in cameras])
    return Observations(
        plain_array(distance, np.float32),
        plain_array(normals, np.float32),
        plain_array(views, np.float64),
    )


def _spread(normals: np.ndarray, known: np.ndarray, scale: float) -> np.ndarray:
    """Unit normals everywhere near the known ones, the nearest counting most."""
    inside = np.where(known[..., None], normals, np.float32(0.0))
    near = cv2.GaussianBlur(inside, (0, 0), 2.0 * scale)
    far = cv2.GaussianBlur(inside, (0, 0), 8.0 * scale)
    total = near + 1e-4 * far
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12))
