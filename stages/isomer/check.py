"""Does a mesh show what the pictures show?"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from stages.geometry.cameras import bundle_cameras, decode_normals
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import look, vertex_normals

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
    normal_tiles: np.ndarray,
    mask: np.ndarray,
    radius: float,
    rasterizer: Rasterizer,
) -> float:
    """Mean angle in degrees between a mesh's normals and those of the tiles, over all pixels that
    both cover; 180 if there is none.

    vertices (V, 3), faces (F, 3) in frame W
    normal_tiles  (4, S, S, 3) in the bundle's encoding; mask (4, S, S) bool, their silhouettes
    radius        distance of the bundle's cameras from the origin

    refine/start.py measures the same where the mesh is refined, on its device; this needs no torch.
    """
    own = vertex_normals(vertices, faces)
    cosines = []
    for camera, tile, inside in zip(bundle_cameras(radius), normal_tiles, mask, strict=True):
        seen = look(vertices, faces, camera, len(tile), 1, rasterizer)
        both = seen.covered & inside
        drawn = interpolate(seen, faces, own)[both]
        wanted = decode_normals(tile, camera)[both]
        lengths = np.linalg.norm(drawn, axis=1) * np.linalg.norm(wanted, axis=1)
        cosines.append(np.einsum("pc,pc->p", drawn, wanted) / np.maximum(lengths, 1e-9))
    together = np.clip(np.concatenate(cosines), -1.0, 1.0)
    return float(np.degrees(np.arccos(together)).mean()) if len(together) else 180.0
