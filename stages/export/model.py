"""A mesh on its way from one file to another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stages.geometry.render import vertex_normals

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""y up becomes z up, and the front, which looked towards +z, looks towards -y: towards a printer's
user."""


@dataclass(frozen=True)
class Model:
    """A triangle mesh whose vertices are joined across the seams of its texture.

    vertices    (V, 3) float64, y up
    faces       (F, 3) int32, counter-clockwise from outside
    normals     (F, 3, 3) float32 unit, of each corner; None: smooth everywhere
    uv          (F, 3, 2) float32, of each corner, v down as in glTF; None without a texture
    color_png   its texture, sRGB
    normal_png  its normal map as glTF has it, or b""
    tangents    (F, 3, 4) float32 for the normal map, as glTF has them; None: readers make their own
    colors      (V, 3) uint8 sRGB; None without
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None = None
    uv: np.ndarray | None = None
    color_png: bytes = b""
    normal_png: bytes = b""
    tangents: np.ndarray | None = None
    colors: np.ndarray | None = None

    @property
    def size(self) -> np.ndarray:
        """(3,) sides of the bounding box."""
        return np.asarray(self.vertices.max(axis=0) - self.vertices.min(axis=0))

    def placed(self, scale: float, for_print: bool, z_up: bool) -> Model:
        """Scaled; for printing also turned, and moved to where all coordinates are 0 or more."""
        turn = Z_UP if z_up else np.eye(3)
        vertices = self.vertices * scale @ turn.T
        if for_print:
            vertices = vertices - vertices.min(axis=0)
        normals = None if self.normals is None else (self.normals @ turn.T).astype(np.float32)
        tangents = None
        if self.tangents is not None:
            along = self.tangents[..., :3] @ turn.T
            tangents = np.concatenate([along, self.tangents[..., 3:]], axis=2).astype(np.float32)
        return replace(self, vertices=vertices, normals=normals, tangents=tangents)


@dataclass(frozen=True)
class Corners:
    """A model as most formats want it: a vertex once for each normal and texture coordinate.

    origin  (U,) int64, which of the model's vertices each one is
    faces   (F, 3) int32 into those
    """

    model: Model

    @cached_property
    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """(U,) int64 the first corner of each vertex, and (F, 3) int32."""
        model = self.model
        columns = [model.faces.reshape(-1, 1).astype(np.int64)]
        for values in (model.normals, model.uv, model.tangents):
            if values is not None:
                bits = np.ascontiguousarray(values, np.float32).view(np.int32)
                columns.append(bits.reshape(-1, values.shape[2]).astype(np.int64))
        if len(columns) == 1:
            _, first, inverse = np.unique(columns[0], return_index=True, return_inverse=True)
        else:
            rows = np.ascontiguousarray(np.concatenate(columns, axis=1))
            _, first, inverse = np.unique(
                rows.view([("", rows.dtype)] * rows.shape[1])[:, 0],
                return_index=True,
                return_inverse=True,
            )
        return first, inverse.reshape(-1, 3).astype(np.int32)

    @property
    def origin(self) -> np.ndarray:
        return np.asarray(self.model.faces.reshape(-1)[self._split[0]])

    @property
    def faces(self) -> np.ndarray:
        return self._split[1]

    @property
    def vertices(self) -> np.ndarray:
        """(U, 3) float32"""
        return self.model.vertices[self.origin].astype(np.float32)

    @property
    def normals(self) -> np.ndarray:
        """(U, 3) float32 unit"""
        model = self.model
        if model.normals is None:
            return vertex_normals(model.vertices, model.faces)[self.origin]
        return np.asarray(model.normals.reshape(-1, 3)[self._split[0]])

    @property
    def uv(self) -> np.ndarray:
        """(U, 2) float32, v down. Only of a model with a texture."""
        assert self.model.uv is not None
        return np.asarray(self.model.uv.reshape(-1, 2)[self._split[0]])

    @property
    def tangents(self) -> np.ndarray | None:
        """(U, 4) float32 or None"""
        along = self.model.tangents
        return None if along is None else np.asarray(along.reshape(-1, 4)[self._split[0]])

    @property
    def colors(self) -> np.ndarray | None:
        """(U, 3) uint8 sRGB or None"""
        colors = self.model.colors
        return None if colors is None else np.asarray(colors[self.origin])

    @property
    def color_png(self) -> bytes:
        return self.model.color_png

    @property
    def normal_png(self) -> bytes:
        return self.model.normal_png


def sampled(texels: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(n, C) float32: what (H, W, C) texels show at (n, 2) texture coordinates, v down.

    Bilinear; coordinates outside of [0, 1] repeat the texture, as glTF and OBJ have it by default.
    """
    height, width = texels.shape[:2]
    wrapped = np.where((uv >= 0.0) & (uv <= 1.0), uv, uv % 1.0)
    x = np.clip(wrapped[:, 0] * width - 0.5, 0.0, width - 1.0)
    y = np.clip(wrapped[:, 1] * height - 0.5, 0.0, height - 1.0)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[:, None], (y - top)[:, None]
    upper = texels[top, left] * (1.0 - across) + texels[top, right] * across
    lower = texels[below, left] * (1.0 - across) + texels[below, right] * across
    return np.asarray(upper * (1.0 - down) + lower * down, np.float32)


def vertex_colors(model: Model, texels: np.ndarray) -> np.ndarray:
    """(V, 3) uint8 sRGB of a textured model's vertices: the texture at one corner of each."""
    assert model.uv is not None
    used, first = np.unique(model.faces.reshape(-1), return_index=True)
    colors = np.full((len(model.vertices), 3), 255, np.uint8)
    colors[used] = np.rint(sampled(texels, model.uv.reshape(-1, 2)[first])).astype(np.uint8)
    return colors
