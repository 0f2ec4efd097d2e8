"""Colours of texels, from the bundle's own pixels where a view sees the surface."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stages.contract import Mesh
from stages.geometry.jit import plain_array
from stages.geometry.raster import Fragments
from stages.geometry.threads import in_threads
from stages.isomer.color_params import ColorParams
from stages.isomer.coloring import Coloring
from stages.isomer.projection import View
from stages.isomer.visibility import DEPTH_BIAS, window_reach

BANDS_PER_THREAD = 4


def bake_colors(
    mesh: Mesh,
    normals: np.ndarray,
    shown: Fragments,
    seen: np.ndarray,
    hidden: np.ndarray,
    coloring: Coloring,
    views: Sequence[View],
    params: ColorParams,
    threads: int,
) -> np.ndarray:
    """(size, size, 3) uint8 sRGB; texels beside the charts take the nearest one's colour.

    What `coloring.color_vertices` does for vertices, done for the surface point of every texel.

    mesh, normals (V, 3)  what was unwrapped, in frame W
    shown                 which of its surface points each texel shows
    seen (V, K)           `Coloring.seen` at its vertices
    hidden (V, 3)         colours in [0, 1] for what the views show too little of
    """
    from stages.isomer.texture import kernels

    texture = np.zeros((*shown.pix_to_face.shape, 3), np.uint8)
    cameras = [view.camera for view in views]
    nowhere = np.zeros((len(views), 1, 1))
    nearest = nowhere if coloring.nearest is None else coloring.nearest
    depths = plain_array(nearest, np.float32)

    def floats(values: object) -> np.ndarray:
        return plain_array(values, np.float64)

    positions, facing = floats(mesh.vertices), floats(normals)
    trust, beneath = floats(seen), floats(hidden)
    centers = floats([camera.center for camera in cameras])
    axes = floats([camera.axes for camera in cameras])
    focal = floats([camera.focal for camera in cameras])
    weights = floats([view.weight for view in views])
    images = plain_array(np.stack([view.image for view in views]), np.float32)
    alphas = plain_array(np.stack([view.alpha for view in views]), np.float32)
    faces = plain_array(mesh.faces, np.int32)

    def band(top: int, bottom: int) -> None:
        kernels.bake(
            top,
            bottom,
            shown.pix_to_face,
            shown.barycentrics,
            faces,
            positions,
            facing,
            trust,
            beneath,
            centers,
            axes,
            focal,
            weights,
            images,
            alphas,
            depths,
            2.0 if params.cosine == "square" else 1.0,
            params.view_direction == "axis",
            coloring.nearest is not None,
            params.min_cosine,
            window_reach(params.occlusion_margin),
            DEPTH_BIAS,
            params.weight_threshold,
            texture,
        )

    in_threads(lambda ends: band(*ends), _bands(len(texture), threads), threads)
    return spread(texture, shown.covered, threads)


def spread(texture: np.ndarray, covered: np.ndarray, threads: int = 1) -> np.ndarray:
    """The texture (S, S, C) with every texel that is not `covered` (S, S) bool coloured like the
    nearest one that is: look-ups at a seam, and the means of mip-maps, see no other colour."""
    import cv2

    if not covered.any():
        return texture
    # Five times faster than scipy's exact transform; distances may be off by 2%.
    _, label = cv2.distanceTransformWithLabels(
        (~covered).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    flat = texture.reshape(-1, texture.shape[2])
    source = np.zeros(int(label.max()) + 1, np.int64)
    at = np.flatnonzero(covered)
    source[label.reshape(-1)[at]] = at
    result = np.empty_like(texture)

    def band(ends: tuple[int, int]) -> None:
        rows = slice(*ends)
        result[rows] = flat[source[label[rows]]]

    in_threads(band, _bands(len(texture), threads), threads)
    return result


def _bands(rows: int, threads: int) -> list[tuple[int, int]]:
    """Where each of several bands of a picture's rows begins and ends."""
    edges = np.linspace(0, rows, threads * BANDS_PER_THREAD + 1).astype(int).tolist()
    return list(pairwise(edges))
