"""Four views -> reference bundle, with normals of our own where the views come without."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from stages.geometry.bundle import join
from stages.geometry.cameras import bundle_cameras
from stages.geometry.normal_fusion.guess import encoded, inflated
from stages.geometry.normal_fusion.params import ReconstructParams
from stages.geometry.normal_fusion.reconstruct import mesh_from_normals
from stages.geometry.raster import open_rasterizer
from stages.geometry.render import look, normal_tile, vertex_normals
from stages.geometry.silhouettes import clean, coverage_of_colors
from stages.lrm.hull.params import ReferenceParams
from stages.models.sketch_net import SIDE
from stages.models.sketch_net.opening import See

SAMPLES = 2


def to_bundle(views: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Two (4, S, S, 3) uint8 rows -> (2 S, 4 S, 3) float32 in [0, 1]."""
    return np.asarray(join(views, normals).astype(np.float32) / 255.0)


def _shrunk(view: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def normals_of_views(
    views: np.ndarray,
    params: ReferenceParams,
    threads: int,
    progress: Callable[[int, int], None],
    see: See | None = None,
) -> np.ndarray:
    """Normal maps of (4, S, S, 3) uint8 views on white, same shape and dtype.

    `see` tells those of each view for a first guess, or the silhouettes are inflated; the guesses
    are fused into one body, whose normals are rendered, so that all four maps belong to the same
    shape. Raises BadInput if a view is empty or the silhouettes do not fit together.
    """
    size = views.shape[1]
    cameras = bundle_cameras(params.radius)
    cover = clean(coverage_of_colors(views.astype(np.float32) / 255.0))
    if see is None:
        guess = np.stack([inflated(c, camera) for c, camera in zip(cover, cameras, strict=True)])
    else:
        guess = np.stack(
            [
                encoded(see(_shrunk(view)).normal, size, camera)
                for view, camera in zip(views, cameras, strict=True)
            ]
        )
    shape = ReconstructParams(radius=params.radius, resolution=params.resolution)
    mesh = mesh_from_normals(guess, cover, shape, threads, progress)
    rasterizer = open_rasterizer("cpu", threads=threads)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    tiles = []
    for camera in cameras:
        seen = look(mesh.vertices, mesh.faces, camera, size, SAMPLES, rasterizer)
        tiles.append(normal_tile(seen, mesh.faces, normals, camera, SAMPLES))
    return np.rint(np.stack(tiles) * 255.0).astype(np.uint8)
