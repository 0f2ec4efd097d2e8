"""Tiles of the bundle from a given mesh: its colours, and its normals as the bundle encodes them.

As the reference renders its 3D to 3D bundles (docs/reference.md): two-sided normals, bent towards
the face's own where they turn away from the camera, and a white background that is blended in by
coverage, in sRGB. Other than there, four samples a pixel take the place of its antialiasing, and
`SKY` and `GROUND` that of its environment light, a map which is not shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.contract.srgb import linear_to_srgb
from stages.geometry.cameras import Camera, encode_normals
from stages.geometry.raster import Rasterizer
from stages.geometry.render import coverage, resolve
from stages.mesh_views.looking import Seen, look_at, mixed
from stages.mesh_views.pictures import Texture
from stages.mesh_views.surface import Surface

SAMPLES = 2
GREY = 0.5
"""Linear light: of a mesh that has no colours."""
SKY, GROUND = 1.0, 0.6
"""What light "soft" gives to surfaces that face up and down, in between by the cosine."""
BEND = 0.1
"""Cosine towards the camera below which a normal is bent: of the reference's renderer."""


@dataclass(frozen=True)
class Tile:
    """One camera's picture.

    color    (S, S, 3) float32 sRGB on white
    normal   (S, S, 3) float32, encoded, on white
    cover    (S, S) float32, share of a pixel that the mesh covers
    inside   samples that show the inner side of a face, and samples that show any
    """

    color: np.ndarray
    normal: np.ndarray
    cover: np.ndarray
    inside: tuple[int, int]


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and how.

    normals   (F, 3, 3) unit, of the corners
    light, encoding  as the stage's params `light` and `normal_encoding`
    """

    surface: Surface
    normals: np.ndarray
    textures: Mapping[int, Texture]
    light: Literal["even", "soft"]
    encoding: Literal["bundle", "reference"]

    def tile(self, camera: Camera, size: int, rasterizer: Rasterizer) -> Tile:
        """size: pixels a side"""
        seen = look_at(self.surface, self.textures, camera, size * SAMPLES, rasterizer)
        facing, inside = self._facing(seen, camera)
        color = surface_color(
            self.surface, self.textures, seen.face, seen.weights, seen.level[seen.face]
        )
        if self.light == "soft":
            color = color * _soft_light(facing)
        covered = seen.fragments.covered

        def spread(values: np.ndarray) -> np.ndarray:
            image = np.zeros((*covered.shape, 3), np.float32)
            image[covered] = values
            return image

        return Tile(
            resolve(spread(linear_to_srgb(color)), seen.fragments, SAMPLES),
            self._encoded(spread(facing), seen, camera),
            coverage(seen.fragments, SAMPLES),
            (int(inside.sum()), len(inside)),
        )

    def _facing(self, seen: Seen, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) unit normals of the samples, turned to the camera; (n,) bool, what was turned."""
        corners = self.surface.points[self.surface.corners]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat = _unit(flat)[seen.face]
        smooth = _unit(seen.mixed(self.normals))
        smooth = np.where(_dot(smooth, flat) < 0.0, -smooth, smooth)
        view = _unit(camera.center - seen.mixed(corners))
        inside = _dot(flat, view) < 0.0
        flat, smooth = (np.where(inside, -one, one) for one in (flat, smooth))
        share = np.clip(_dot(view, smooth) / BEND, 0.0, 1.0)
        return _unit(flat + (smooth - flat) * share), inside[:, 0]

    def _encoded(self, normals: np.ndarray, seen: Seen, camera: Camera) -> np.ndarray:
        mean = resolve(normals, seen.fragments, SAMPLES, background=0.0)
        share = coverage(seen.fragments, SAMPLES)[..., None]
        mean = _unit(mean)
        if self.encoding == "reference":
            # It applies C diag(-1, 1, 1), which leads from the camera's axes to the world's.
            encoded = (mean @ (camera.axes * (-1.0, 1.0, 1.0)).T + 1.0) / 2.0
        else:
            encoded = encode_normals(mean, camera)
        return np.clip(encoded * share + (1.0 - share), 0.0, 1.0).astype(np.float32)


def surface_color(
    surface: Surface,
    textures: Mapping[int, Texture],
    face: np.ndarray,
    weights: np.ndarray,
    level: np.ndarray,
) -> np.ndarray:
    """(n, 3) float32, linear light: what points of faces (n,) at weights (n, 3) reflect.

    level: (n,) base-2 logarithm of how many texels each stands for
    """
    if not surface.colored:
        return np.full((len(face), 3), GREY, np.float32)
    number = surface.material[face]
    color = np.array([one.color for one in surface.materials], np.float32)[number]
    if surface.colors is not None:
        color = color * mixed(surface.colors, face, weights)
    if surface.uv is not None:
        for n, texture in textures.items():
            at = number == n
            uv = mixed(surface.uv, face[at], weights[at])
            color[at] *= texture.look_up(uv, level[at])[:, :3]
    return np.clip(color, 0.0, 1.0)


def vertex_colors(surface: Surface, textures: Mapping[int, Texture]) -> np.ndarray:
    """(V, 3) uint8 sRGB: the mean of what the faces around each vertex show there."""
    count = len(surface.corners)
    face = np.repeat(np.arange(count), 3)
    weights = np.tile(np.eye(3), (count, 1))
    colors = surface_color(surface, textures, face, weights, np.zeros(len(face)))
    corner = surface.corners.reshape(-1)
    total = np.stack(
        [np.bincount(corner, colors[:, c], minlength=len(surface.points)) for c in range(3)], 1
    )
    times = np.bincount(corner, minlength=len(surface.points))[:, None]
    return np.rint(linear_to_srgb(total / np.maximum(times, 1)) * 255.0).astype(np.uint8)


def inside_share(tiles: Sequence[Tile]) -> float:
    """Share of what the cameras see that is the inner side of a face."""
    inner, seen = (sum(tile.inside[k] for tile in tiles) for k in (0, 1))
    return inner / max(1, seen)


def _soft_light(normals: np.ndarray) -> np.ndarray:
    return np.asarray(GROUND + (SKY - GROUND) * (normals[:, 1:2] + 1.0) / 2.0)


def _dot(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(n, 1)"""
    return np.einsum("nc,nc->n", one, two)[:, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-30))
