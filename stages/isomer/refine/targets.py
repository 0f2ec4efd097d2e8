"""What the mesh is to look like: target pictures, and the normal that is wanted at each vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.geometry.cameras import Camera, decode_normals
from stages.geometry.diffrender.views import Views
from stages.geometry.raster import Rasterizer, visible_faces
from stages.geometry.render import vertex_normals
from stages.isomer.projection import View, gather
from stages.isomer.visibility import by_faces

MIN_COSINE = 0.05
THRESHOLD = 0.1
RASTER_SIZE = 1024


@dataclass(frozen=True)
class Targets:
    """The pictures of a bundle.

    normals   (K, S, S, 3) float64 in [0, 1]: (n + 1) / 2 in frame W, on white
    mask      (K, S, S) bool
    coverage  (K, S, S) float in [0, 1], the share of each pixel that the object covers
    weights   (K,) relative weights of the views
    """

    cameras: tuple[Camera, ...]
    normals: np.ndarray
    mask: np.ndarray
    coverage: np.ndarray
    weights: tuple[float, ...]

    @classmethod
    def from_tiles(
        cls,
        normal_tiles: np.ndarray,
        mask: np.ndarray,
        coverage: np.ndarray,
        cameras: Sequence[Camera],
        weights: Sequence[float],
    ) -> Targets:
        """From tiles (K, S, S, 3) in the bundle's encoding and where the object is in them.

        Values are cut to 8 bits as the reference does on its way through a picture.
        """
        world = np.stack(
            [
                (decode_normals(tile.astype(np.float64), camera) + 1.0) / 2.0
                for tile, camera in zip(normal_tiles, cameras, strict=True)
            ]
        )
        on_white = np.where(mask[..., None], world, 1.0)
        cut = np.floor(np.clip(on_white, 0.0, 1.0) * 255.0) / 255.0
        return cls(tuple(cameras), cut, mask, coverage, tuple(weights))

    def views(self, rasterizer: Rasterizer, device: str = "cpu") -> Views:
        """What sees a mesh as the pictures' cameras do."""
        return Views(self.cameras, self.mask.shape[1], rasterizer, device)

    def on_black(self) -> np.ndarray:
        """(K, S, S, 4) float32, for comparison with rendered pictures; see `init_target`."""
        rgba = np.concatenate([self.normals, self.mask[..., None]], axis=-1)
        return init_target(np.rint(rgba * 255.0).astype(np.uint8))


def init_target(rgba: np.ndarray) -> np.ndarray:
    """(K, S, S, 4) uint8 on any plain background -> float32 in [0, 1] on black.

    The background's colour is read from pixel (0, 0) and taken out of half covered pixels.
    """
    color, alpha = rgba[..., :3] / 255.0, rgba[..., 3:] / 255.0
    background = color[:, :1, :1]
    solid = (color - background * (1.0 - alpha)) / np.clip(alpha, 1e-6, 1.0)
    on_black = np.where(alpha > 0.05, np.clip(solid, 0.0, 1.0) * alpha, 0.0)
    return np.concatenate([on_black, alpha], axis=-1).astype(np.float32)


def explicit_normals(
    vertices: np.ndarray, faces: np.ndarray, targets: Targets, rasterizer: Rasterizer
) -> np.ndarray:
    """(V, 3) float32 unit normals that the pictures ask for; an unseen vertex keeps its own.

    vertices (V, 3), faces (F, 3). The multi-view projection of the reference's second stage: faces
    that own a pixel at 1024 x 1024, weights |cos| against the optical axis.
    """
    normals = vertex_normals(vertices, faces)
    views = [
        View(camera, picture, mask.astype(np.float64), weight)
        for camera, picture, mask, weight in zip(
            targets.cameras, targets.normals, targets.mask, targets.weights, strict=True
        )
    ]
    size = (RASTER_SIZE, RASTER_SIZE)
    seen = np.stack(
        [
            by_faces(
                vertices,
                faces,
                camera,
                visible_faces(rasterizer.rasterize(camera.to_clip(vertices), faces, size)),
                MIN_COSINE,
            )
            for camera in targets.cameras
        ]
    )
    evidence = gather(vertices, normals, views, seen.astype(np.float64), 1.0, "axis")
    wanted = 2.0 * evidence.replace((normals + 1.0) / 2.0, THRESHOLD) - 1.0
    length = np.linalg.norm(wanted, axis=1, keepdims=True)
    return np.asarray(wanted / np.maximum(length, 1e-12), np.float32)
