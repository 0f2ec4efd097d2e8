"""Which face does each sample show, where some have holes in their texture?

A rasteriser gives the nearest face alone. Behind a hole lies what the next round shows, in which
faces that had a hole at the front take no part. `LAYERS` rounds are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.geometry.cameras import Camera
from stages.geometry.raster import Fragments, Rasterizer
from stages.mesh_views.pictures import HOLE, Texture
from stages.mesh_views.surface import Surface

LAYERS = 4


@dataclass(frozen=True)
class Seen:
    """What one camera sees, sample by sample.

    fragments  over (S * samples) squared
    face       (n,) the face of each covered sample, row by row
    weights    (n, 3) of that face's corners
    level      (F,) base-2 logarithm of how many texels of its texture a sample is wide
    """

    fragments: Fragments
    face: np.ndarray
    weights: np.ndarray
    level: np.ndarray

    def mixed(self, corners: np.ndarray) -> np.ndarray:
        """(n, C) of values (F, 3, C) at the corners of faces."""
        return mixed(corners, self.face, self.weights)


def mixed(corners: np.ndarray, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, C) of values (F, 3, C), at barycentric `weights` (n, 3) of faces (n,)."""
    return np.asarray(np.einsum("nk,nkc->nc", weights, corners[face]))


def look_at(
    surface: Surface,
    textures: Mapping[int, Texture],
    camera: Camera,
    side: int,
    rasterizer: Rasterizer,
) -> Seen:
    """side: samples along each side of the picture."""
    clip = camera.to_clip(surface.points)
    level = _levels(surface, textures, clip, side)
    pierced = [
        n
        for n, texture in textures.items()
        if surface.materials[n].alpha != "opaque" and (texture.levels[0][..., 3] < 255).any()
    ]
    fragments = rasterizer.rasterize(clip, surface.corners, (side, side))
    if pierced:
        may = np.isin(surface.material, pierced)
        fragments = _behind_holes(surface, textures, clip, side, rasterizer, fragments, may, level)
    covered = fragments.covered
    return Seen(fragments, fragments.pix_to_face[covered], fragments.barycentrics[covered], level)


def _behind_holes(
    surface: Surface,
    textures: Mapping[int, Texture],
    clip: np.ndarray,
    side: int,
    rasterizer: Rasterizer,
    first: Fragments,
    may: np.ndarray,
    level: np.ndarray,
) -> Fragments:
    """The nearest of all rounds' faces that is no hole. may: (F,) bool, faces that can have one."""
    best_face = np.full((side, side), -1, np.int32)
    best_weights = np.zeros((side, side, 3), np.float32)
    best_depth = np.full((side, side), np.inf, np.float32)
    kept = np.arange(len(surface.corners))
    found = first
    for layer in range(LAYERS):
        ids = np.where(found.covered, kept[found.pix_to_face], -1)
        hole = np.zeros((side, side), bool)
        rows, columns = np.nonzero(found.covered & may[ids])
        face, weights = ids[rows, columns], found.barycentrics[rows, columns]
        hole[rows, columns] = _is_hole(surface, textures, face, weights, level)
        nearer = found.covered & ~hole & (found.depth < best_depth)
        best_face[nearer] = ids[nearer]
        best_weights[nearer] = found.barycentrics[nearer]
        best_depth[nearer] = found.depth[nearer]
        pierced = np.unique(ids[hole & (found.depth < best_depth)])
        if not len(pierced) or layer == LAYERS - 1:
            break
        kept = np.setdiff1d(kept, pierced, assume_unique=True)
        found = rasterizer.rasterize(clip, surface.corners[kept], (side, side))
    return Fragments(best_face, best_weights, best_depth)


def _is_hole(
    surface: Surface,
    textures: Mapping[int, Texture],
    face: np.ndarray,
    weights: np.ndarray,
    level: np.ndarray,
) -> np.ndarray:
    """(n,) bool"""
    hole = np.zeros(len(face), bool)
    if surface.uv is None:
        return hole
    number = surface.material[face]
    for n, texture in textures.items():
        material, at = surface.materials[n], number == n
        if material.alpha == "opaque" or not at.any():
            continue
        uv = mixed(surface.uv, face[at], weights[at])
        cutoff = material.cutoff if material.alpha == "mask" else HOLE
        hole[at] = texture.look_up(uv, level[face[at]])[:, 3] < cutoff
    return hole


def _levels(
    surface: Surface, textures: Mapping[int, Texture], clip: np.ndarray, side: int
) -> np.ndarray:
    """(F,) float32: half the logarithm of the area of a face in texels over that in samples."""
    level = np.zeros(len(surface.corners), np.float32)
    if surface.uv is None or not textures:
        return level
    screen = clip[:, :2] / np.maximum(clip[:, 3:], 1e-3) * (side / 2.0)
    shown = _areas(screen[surface.corners])
    flat = _areas(surface.uv.astype(np.float64))
    for n, texture in textures.items():
        at = surface.material == n
        height, width = texture.size
        ratio = flat[at] * (height * width) / np.maximum(shown[at], 1e-9)
        level[at] = 0.5 * np.log2(np.maximum(ratio, 1e-9))
    return level


def _areas(corners: np.ndarray) -> np.ndarray:
    """(F,) of triangles (F, 3, 2)."""
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2.0)
