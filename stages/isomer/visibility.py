"""Which vertices may take their colour from which view."""

from __future__ import annotations

import numpy as np

from stages.geometry.cameras import Camera
from stages.geometry.numpy_edges import adjacency
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


def window_depth(depth: np.ndarray, margin: int) -> np.ndarray:
    """The least depth of the 2 x 2 pixels from each on, which a bilinear look-up reads, and of
    those within `margin` of them. depth (R, R); returns the like."""
    import cv2

    # The look-up's 2 x 2 block starting at a pixel, and its margin. Six times as fast as scipy's.
    window = np.ones((2 * margin + 2, 2 * margin + 2), np.uint8)
    anchor = (margin, margin)
    return np.asarray(cv2.erode(depth, window, anchor=anchor, borderType=cv2.BORDER_REPLICATE))


def window_reach(margin: int) -> float:
    """From a point to the far corner of its window, in pixels."""
    return float((margin + 1.0) * np.sqrt(2.0))


def by_depth(
    vertices: np.ndarray,
    normals: np.ndarray,
    camera: Camera,
    nearest: np.ndarray,
    min_cosine: float,
    margin: int,
    direction: Direction,
) -> np.ndarray:
    """A depth test for every vertex against all pixels near its projection.

    nearest (R, R) is the `window_depth` of what the camera sees, with the same margin. A vertex is
    seen if nothing in its window lies in front of it by more than the surface's own slope explains.
    So a colour is never taken from an occluder, also when picture and mesh disagree by up to a
    pixel or two about where its outline is. Returns (V,) bool.
    """
    size = nearest.shape[0]
    points = vertices.astype(np.float64)
    cosine = view_cosines(points, normals, camera, direction)
    pixels, depth = camera.project(points, size)
    ids = np.flatnonzero(
        (cosine > min_cosine)
        & (depth > 0.0)
        & (pixels >= 0.0).all(axis=1)
        & (pixels <= size).all(axis=1)
    )
    column, row = np.clip((pixels[ids] - 0.5).astype(np.int64), 0, size - 1).T
    pixel_width = 2.0 * depth[ids] / (camera.focal * size)
    tangent = np.sqrt(np.maximum(1.0 - cosine[ids] ** 2, 0.0)) / cosine[ids]
    reach = window_reach(margin) * pixel_width
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
