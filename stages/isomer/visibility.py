"""Which vertices may take their colour from which view."""

from __future__ import annotations

import numpy as np

from stages.geometry.cameras import Camera
from stages.geometry.numpy_edges import adjacency
from stages.geometry.raster import Fragments
from stages.isomer.projection import Direction, view_cosines

DEPTH_BIAS = 0.01
"""Depth by which a vertex may lie behind what its pixels show (scene units; an object has a size
of about 2): above the error of a rasterised curved surface, below the thickness of an ear."""


def by_faces(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
    face_ids: np.ndarray,
    min_cosine: float,
) -> np.ndarray:
    """The reference's rule: corners of faces that own a pixel centre and face the camera.

    face_ids (n,) visible faces; a face counts when its normal and the optical axis have a cosine
    of more than `min_cosine`. A vertex behind an occluder's outline passes, and a face smaller
    than a pixel may not. Returns (V,) bool.
    """
    corners = vertices.astype(np.float64)[faces[face_ids]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1)
    facing = normal @ camera.axes[:, 2] > min_cosine * length
    seen = np.zeros(len(vertices), bool)
    seen[faces[face_ids[facing]]] = True
    return seen


def by_depth(
    vertices: np.ndarray,
    normals: np.ndarray,
    camera: Camera,
    fragments: Fragments,
    min_cosine: float,
    margin: int,
    direction: Direction,
) -> np.ndarray:
    """A depth test for every vertex against all pixels near its projection.

    A vertex is seen if nothing within `margin` pixels of the four that a bilinear look-up reads
    lies in front of it by more than the surface's own slope explains. So a colour is never taken
    from an occluder, also when picture and mesh disagree by up to a pixel or two about where its
    outline is. Returns (V,) bool.
    """
    from scipy import ndimage

    size = fragments.depth.shape[0]
    points = vertices.astype(np.float64)
    cosine = view_cosines(points, normals, camera, direction)
    pixels, depth = camera.project(points, size)
    ids = np.flatnonzero(
        (cosine > min_cosine)
        & (depth > 0.0)
        & (pixels >= 0.0).all(axis=1)
        & (pixels <= size).all(axis=1)
    )
    # minimum_filter's window of an even side covers [-side / 2, side / 2): with origin -1 it is
    # the look-up's 2 x 2 block starting at a pixel, and its margin.
    nearest = ndimage.minimum_filter(
        fragments.depth, size=2 * margin + 2, origin=-1, mode="nearest"
    )
    column, row = np.clip((pixels[ids] - 0.5).astype(np.int64), 0, size - 1).T
    pixel_width = 2.0 * depth[ids] / (camera.focal * size)
    tangent = np.sqrt(np.maximum(1.0 - cosine[ids] ** 2, 0.0)) / cosine[ids]
    # From the vertex to the far corner of the window.
    reach = (margin + 1.0) * np.sqrt(2.0) * pixel_width
    seen = np.zeros(len(points), bool)
    seen[ids] = nearest[row, column] >= depth[ids] - DEPTH_BIAS - reach * tangent
    return seen


def feather(seen: np.ndarray, edges: np.ndarray, rings: int) -> np.ndarray:
    """Let a view fade out towards the vertices that it does not see.

    Without this, a view that ends at an occluder ends with full weight, which shows as a seam.

    seen (V,) bool, edges (E, 2); over `rings` rounds every seen vertex takes the mean of its
    neighbours, so the fade is about sqrt(rings) to `rings` edges wide. Returns (V,) float64 in
    [0, 1], 0 where not seen.
    """
    soft = seen.astype(np.float64)
    if rings == 0 or seen.all():
        return soft
    neighbours = adjacency(edges, len(seen))
    valence = np.maximum(neighbours.sum(axis=1), 1.0)
    for _ in range(rings):
        soft = np.where(seen, neighbours @ soft / valence, 0.0)
    return soft
