"""Does a mesh show what the pictures show?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import look, vertex_normals
from stages.geometry.threads import in_threads

Wanted = Callable[[int, np.ndarray], np.ndarray]

WHITE = 0.85
"""A pixel with a channel below it is no background, whatever JPEG or a VAE has done to white."""

SLACK = 4
"""Pixels of a 512 tile by which an outline may be off: what is farther from the mesh is missing. Of
a small tile at least `LEAST_SLACK`, as half covered pixels count as drawn and not as covered."""
LEAST_SLACK = 2.0

WORTH_A_WORD = 0.03
"""Share of the silhouette: half of a tapering blade is 0.1 of a sword."""


def missing_share(
    vertices: np.ndarray,
    faces: np.ndarray,
    front: np.ndarray,
    mask: np.ndarray,
    radius: float,
    rasterizer: Rasterizer,
) -> float:
    """Share of the front view's silhouette that the mesh does not cover from there, 0 to 1.

    vertices (V, 3), faces (F, 3) in frame W
    front   (S, S, 3) the bundle's front view on white, in [0, 1]
    mask    (S, S) bool, the silhouette of its normals, which a white object has too
    radius  distance of the bundle's cameras from the origin
    """
    size = len(front)
    drawn = mask | (front.min(axis=-1) < WHITE)
    covered = look(vertices, faces, bundle_cameras(radius)[0], size, 1, rasterizer).covered
    reach = max(LEAST_SLACK, SLACK * size / 512.0)
    far = ndimage.distance_transform_edt(~covered) > reach if covered.any() else ~covered
    return float((drawn & far).sum()) / max(1, int(drawn.sum()))


def disagreement(
    vertices: np.ndarray,
    faces: np.ndarray,
    wanted: Wanted,
    shown: np.ndarray,
    cameras: Sequence[Camera],
    rasterizer: Rasterizer,
    threads: int = 1,
) -> float:
    """Mean angle in degrees between a mesh's normals and those of pictures, over all pixels that
    both cover; 180 if there is none. The same for any number of threads. Needs no torch.

    vertices (V, 3), faces (F, 3) in frame W
    wanted   wanted(k, inside), the normals (P, 3) that picture k has at the pixels (S, S) bool, of
             whatever length, frame W
    shown    (K, S, S) bool, where the pictures show the object
    """
    own = vertex_normals(vertices, faces)

    def cosines(k: int) -> np.ndarray:
        seen = look(vertices, faces, cameras[k], shown.shape[1], 1, rasterizer)
        both = seen.covered & shown[k]
        drawn, told = interpolate(seen, faces, own)[both], wanted(k, both)
        lengths = np.linalg.norm(drawn, axis=1) * np.linalg.norm(told, axis=1)
        return np.asarray(np.einsum("pc,pc->p", drawn, told) / np.maximum(lengths, 1e-9))

    together = np.concatenate(in_threads(cosines, range(len(cameras)), threads))
    together = np.clip(together, -1.0, 1.0)
    return float(np.degrees(np.arccos(together)).mean()) if len(together) else 180.0
