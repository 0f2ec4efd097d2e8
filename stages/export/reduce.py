"""Fewer faces, the same look: decimated, laid flat anew, and coloured from the old texture."""

from __future__ import annotations

import numpy as np

from stages.contract import Mesh
from stages.evaluation import TriangleTree
from stages.export.model import Model, sampled, vertex_colors
from stages.export.read import texels_of
from stages.geometry.raster import interpolate
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.render import vertex_normals
from stages.isomer.decimate import decimate
from stages.isomer.texture.bake import spread
from stages.isomer.texture.normal_map import in_tangent_space, tangents
from stages.isomer.texture.png import png
from stages.isomer.texture.unwrap import CannotUnwrapError, unwrap

SIZES = (512, 1024, 2048, 4096)
"""Sides of a new texture: the first that is no smaller than the old one, or the last."""
OUTWARDS = (0.01, 0.03)
"""Where the old surface nearest to a point faces the other way, as on a thin part, it is looked for
again from this much further out; shares of half the longest side."""


class _Old:
    """The surface of the finer model, to be asked at points near it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._tree = TriangleTree(model.vertices, model.faces)
        corners = model.vertices[model.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self._facing = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)

    def at(self, points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For (n, 3) points and their unit normals: (n,) faces, and (n, 3) weights of their
        corners at the place that is nearest."""
        faces = self._tree.nearest(points)[1]
        for further in OUTWARDS:
            away = np.flatnonzero(np.einsum("nc,nc->n", self._facing[faces], normals) < 0.0)
            if not len(away):
                break
            found = self._tree.nearest(points[away] + further * normals[away])[1]
            better = np.einsum("nc,nc->n", self._facing[found], normals[away]) >= 0.0
            faces[away[better]] = found[better]
        return faces, _weights(self.model.vertices[self.model.faces[faces]], points)

    def mixed(self, faces: np.ndarray, weights: np.ndarray, of: np.ndarray) -> np.ndarray:
        """(n, C) of values (F, 3, C) at the corners."""
        return np.asarray(np.einsum("nk,nkc->nc", weights, of[faces].astype(np.float64)))


def _weights(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 3) barycentric weights of (n, 3) points dropped onto triangles (n, 3, 3), not outside."""
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    to = points - corners[:, 0]
    aa, ab, bb = (np.einsum("nc,nc->n", p, q) for p, q in ((one, one), (one, two), (two, two)))
    pa, pb = np.einsum("nc,nc->n", to, one), np.einsum("nc,nc->n", to, two)
    area = np.maximum(aa * bb - ab * ab, 1e-30)
    v, w = (bb * pa - ab * pb) / area, (aa * pb - ab * pa) / area
    weights = np.maximum(np.stack([1.0 - v - w, v, w], axis=1), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def reduced(model: Model, most: int, threads: int) -> tuple[Model, list[str]]:
    """The model with no more than `most` faces, and sentences on what could not be kept.

    A texture is made anew in the old one's size, and so is a normal map that has the shading of the
    old surface. A mesh that cannot be laid flat gets the texture's colours at its vertices.
    """
    if len(model.faces) <= most:
        return model, []
    low, half = model.vertices.min(axis=0), float(model.size.max()) / 2.0
    old = Model(
        (model.vertices - low) / half - 1.0,
        model.faces,
        model.normals,
        model.uv,
        model.color_png,
        colors=model.colors,
    )
    points, faces = decimate(old.vertices, old.faces, most)
    told = []
    if len(faces) > most:
        told.append(f"{len(faces):,} faces are the fewest that keep its shape")
    mesh = Mesh(points.astype(np.float32), faces.astype(np.int32))
    back = (points + 1.0) * half + low
    surface = _Old(old)
    if old.uv is not None:
        try:
            return _textured(surface, mesh, back, threads), told
        except CannotUnwrapError as error:
            told.append(f"no texture, but colours at the vertices: {error}")
    return _colored(surface, mesh, back), told


def _textured(surface: _Old, mesh: Mesh, back: np.ndarray, threads: int) -> Model:
    """back (V, 3): the vertices where the model has them. Raises CannotUnwrapError."""
    old = surface.model
    assert old.uv is not None
    texels = texels_of(old.color_png)
    size = next((side for side in SIZES if side >= max(texels.shape[:2])), SIZES[-1])
    cut = unwrap(mesh.vertices, mesh.faces, size, CpuRasterizer(threads))
    smooth = vertex_normals(mesh.vertices, mesh.faces)
    covered = cut.fragments.covered
    where = interpolate(cut.fragments, mesh.faces, mesh.vertices)[covered].astype(np.float64)
    facing = interpolate(cut.fragments, mesh.faces, smooth)[covered].astype(np.float64)
    faces, weights = surface.at(where, facing)
    picture = np.zeros((*covered.shape, 3), np.uint8)
    seen = sampled(texels, surface.mixed(faces, weights, old.uv))
    picture[covered] = np.rint(seen).astype(np.uint8)
    normals = old.normals
    if normals is None:
        normals = vertex_normals(old.vertices, old.faces)[old.faces]
    along = tangents(smooth[cut.origin], cut)
    wanted = surface.mixed(faces, weights, normals)
    bumps = in_tangent_space(mesh, smooth, cut, along, wanted)
    return Model(
        back,
        mesh.faces,
        smooth[mesh.faces],
        cut.uv[cut.faces],
        png(spread(picture, covered)),
        png(bumps),
        along[cut.faces],
    )


def _colored(surface: _Old, mesh: Mesh, back: np.ndarray) -> Model:
    old = surface.model
    colors = old.colors
    if colors is None and old.uv is not None:
        colors = vertex_colors(old, texels_of(old.color_png))
    if colors is None:
        return Model(back, mesh.faces)
    smooth = vertex_normals(mesh.vertices, mesh.faces).astype(np.float64)
    faces, weights = surface.at(mesh.vertices.astype(np.float64), smooth)
    mixed = surface.mixed(faces, weights, colors[old.faces])
    return Model(back, mesh.faces, colors=np.rint(mixed).astype(np.uint8))
