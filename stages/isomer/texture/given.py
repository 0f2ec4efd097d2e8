"""A given mesh in new colours: its faces stay as they are, and its texture coordinates if they can.

Colours are found for a finer mesh of the same shape, whose longest edges are cut in half again and
again: a box has eight vertices, which is too few to say who sees its sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.geometry.creased_normals import creased_normals
from stages.geometry.numpy_edges import find_edges
from stages.geometry.raster import Fragments
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.render import vertex_normals
from stages.isomer.cleaning import loop_subdivide
from stages.isomer.color_params import ColorParams
from stages.isomer.coloring import Coloring
from stages.isomer.projection import View
from stages.isomer.texture.bake import bake_colors
from stages.isomer.texture.png import png
from stages.isomer.texture.unwrap import CannotUnwrapError, unwrap

ROUNDS = 10
"""Of cutting edges in half: a box's are 300 texels long, and then as many faces as are wanted."""
MOST_SHARED = 0.01
"""Share of the covered texels that may belong to two faces: where parts of the surface lie on each
other in the texture, as mirrored halves do, it cannot take new colours."""
MOST_FLAT = 0.01
"""Share of the surface whose faces may have no area in the texture."""
MARGIN = 1e-3
"""By which coordinates may leave [0, 1]."""
MOST_UNWRAPPED = 300_000
"""Faces of a mesh that is laid flat anew."""


@dataclass(frozen=True)
class Split:
    """The mesh with a vertex once for each normal and texture coordinate.

    vertices (U, 3) float64, faces (F, 3) int32 in the mesh's order, normals (U, 3) unit,
    uv (U, 2) float64, v down
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray


@dataclass(frozen=True)
class Fine:
    """`Split` with smaller faces, and the same surface with vertices at one place joined.

    joined  the latter, without colours; normals (V, 3), its own
    origin  (U,) which of its vertices each one of `split` is
    """

    split: Split
    joined: Mesh
    normals: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True)
class Repainted:
    """The given mesh with its new texture, as `stages.isomer.export.Textured`.

    colors  (size, size, 3) uint8 sRGB, which `color_png` is the file of
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    colors: np.ndarray
    color_png: bytes
    tangents: np.ndarray | None = None
    normal_png: bytes = b""


def why_not(uv: np.ndarray, mesh: Mesh, size: int, threads: int) -> str:
    """Why texture coordinates (F, 3, 2) of a mesh cannot take new colours; "" if they can."""
    if uv.min() < -MARGIN or uv.max() > 1.0 + MARGIN:
        return "they repeat their texture"
    flat = np.abs(_cross(uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0])) < 1e-12
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    if area[flat].sum() > MOST_FLAT * area.sum():
        return "faces have no room in them"
    faces = np.arange(len(uv) * 3, dtype=np.int32).reshape(-1, 3)
    rasterizer = CpuRasterizer(threads)
    one, other = (
        rasterizer.rasterize(_clip(uv.reshape(-1, 2)), order, (size, size)).pix_to_face
        for order in (faces, faces[::-1])
    )
    covered = one >= 0
    shared = covered & (one != len(faces) - 1 - other)
    if shared.sum() > MOST_SHARED * max(1, int(covered.sum())):
        return "parts of the surface share their place in them"
    return ""


def new_layout(mesh: Mesh, size: int, threads: int) -> np.ndarray:
    """(F, 3, 2) texture coordinates in which each face has texels of its own.

    Raises CannotUnwrapError.
    """
    if len(mesh.faces) > MOST_UNWRAPPED:
        raise CannotUnwrapError(
            f"{len(mesh.faces):,} faces are more than {MOST_UNWRAPPED:,}, which is the most to lay "
            "flat anew"
        )
    cut = unwrap(mesh.vertices, mesh.faces, size, CpuRasterizer(threads))
    return cut.uv[cut.faces]


def split_at(mesh: Mesh, uv: np.ndarray) -> Split:
    """The mesh cut open where its normals or texture coordinates (F, 3, 2) differ."""
    normals = creased_normals(mesh.vertices, mesh.faces)
    values = np.concatenate(
        [normals.reshape(-1, 3), np.clip(uv, 0.0, 1.0).reshape(-1, 2)], axis=1
    ).astype(np.float32)
    rows = np.concatenate(
        [mesh.faces.reshape(-1, 1).astype(np.int64), (values + 0.0).view(np.int32)], axis=1
    )
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return Split(
        mesh.vertices.astype(np.float64)[mesh.faces.reshape(-1)[first]],
        inverse.reshape(-1, 3).astype(np.int32),
        values[first, :3].astype(np.float64),
        values[first, 3:].astype(np.float64),
    )


def refined(split: Split, target_faces: int, min_edge: float) -> Fine:
    """Cut edges in half, longest first, until about `target_faces` are there, or no edge is longer
    than `min_edge` of the bounding box's diagonal. No vertex moves."""
    rows = np.concatenate([split.vertices, split.normals, split.uv], axis=1)
    faces = split.faces
    diagonal = float(np.linalg.norm(np.ptp(split.vertices, axis=0)))
    for _ in range(ROUNDS):
        edges = find_edges(faces, len(rows))
        ends = rows[edges.ends, :3]
        length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        longest = np.argsort(-length, kind="stable")
        room = np.cumsum(edges.face_count[longest]) <= target_faces - len(faces)
        chosen = np.zeros(len(length), bool)
        chosen[longest[room]] = True
        chosen &= (length > min_edge * diagonal) & (length > length.max() / 2.0)
        if not chosen.any():
            break
        rows, faces = loop_subdivide(rows, faces, chosen, edges, keep_shape=True)
    points, inverse = np.unique(rows[:, :3], axis=0, return_inverse=True)
    origin = inverse.reshape(-1)
    joined = Mesh(points.astype(np.float32), origin[faces].astype(np.int32))
    length = np.linalg.norm(rows[:, 3:6], axis=1, keepdims=True)
    fine = Split(rows[:, :3], faces, rows[:, 3:6] / np.maximum(length, 1e-12), rows[:, 6:])
    return Fine(fine, joined, vertex_normals(joined.vertices, joined.faces), origin)


def repaint(
    split: Split,
    fine: Fine,
    coloring: Coloring,
    views: Sequence[View],
    params: ColorParams,
    threads: int,
    report: Callable[[], None],
) -> Repainted:
    """Bake the views into a texture for `split`. coloring: of `fine.joined`."""
    parts, origin = fine.split, fine.origin
    shown: Fragments = CpuRasterizer(threads).rasterize(
        _clip(parts.uv), parts.faces, (params.texture_size, params.texture_size)
    )
    report()
    texture = bake_colors(
        Mesh(parts.vertices, parts.faces),
        parts.normals,
        shown,
        coloring.seen[:, origin].T,
        coloring.colors[origin] / 255.0,
        coloring,
        views,
        params,
        threads,
    )
    return Repainted(
        split.vertices.astype(np.float32),
        split.faces,
        split.normals.astype(np.float32),
        split.uv.astype(np.float32),
        texture,
        png(texture, threads),
    )


def _clip(uv: np.ndarray) -> np.ndarray:
    """Clip coordinates that lay texture coordinates (n, 2), v down, out over a picture."""
    x, y = 2.0 * uv[:, 0].astype(np.float64) - 1.0, 1.0 - 2.0 * uv[:, 1].astype(np.float64)
    return np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=1)


def _cross(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
