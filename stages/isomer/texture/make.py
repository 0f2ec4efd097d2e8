"""From the fine coloured mesh to one of fewer faces with a texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.geometry.render import vertex_normals
from stages.isomer.coloring import Coloring
from stages.isomer.decimate import decimate
from stages.isomer.params import IsomerParams
from stages.isomer.projection import View
from stages.isomer.texture.bake import bake_colors
from stages.isomer.texture.normal_map import bake_normals, tangents
from stages.isomer.texture.png import png
from stages.isomer.texture.unwrap import Unwrapped, unwrap

NEIGHBOURS = 4
TURNED = 0.05
"""What a vertex on the other side of a thin part seems to be farther away, in scene units: a vertex
takes what is known of a fine one that faces as it does."""


@dataclass(frozen=True)
class Textured:
    """A mesh that is cut open along its seams, and its pictures.

    vertices    (U, 3) float32, frame W
    faces       (F, 3) int32
    normals     (U, 3) float32 unit, alike on both sides of a seam
    uv          (U, 2) float32 in [0, 1], v down
    colors      (size, size, 3) uint8 sRGB
    color_png   the same as a file
    tangents    (U, 4) float32 as glTF has them, where there is a normal map
    normal_png  in that tangent space, x right, y up; b"" without
    cut         how it was unwrapped
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    colors: np.ndarray
    color_png: bytes
    tangents: np.ndarray | None
    normal_png: bytes
    cut: Unwrapped


@dataclass(frozen=True)
class Flat:
    """A reduced mesh that is laid flat, without colours.

    normals (V, 3) its own; like (V,) for each vertex, the one of the fine mesh that it is like
    """

    mesh: Mesh
    normals: np.ndarray
    like: np.ndarray
    cut: Unwrapped


def lay_flat(
    vertices: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    params: IsomerParams,
    threads: int,
) -> Flat:
    """Reduce and unwrap a fine mesh, vertices and normals (V, 3), faces (F, 3).

    Raises CannotUnwrapError for a mesh that cannot be laid flat at that size.
    """
    from stages.geometry.raster.cpu import CpuRasterizer

    mesh = _reduced(Mesh(vertices, faces), params.texture_faces)
    smooth = vertex_normals(mesh.vertices, mesh.faces)
    like = _alike(mesh.vertices, smooth, vertices, normals)
    cut = unwrap(mesh.vertices, mesh.faces, params.texture_size, CpuRasterizer(threads))
    return Flat(mesh, smooth, like, cut)


def make_textured(
    fine: Mesh,
    normals: np.ndarray,
    flat: Flat,
    coloring: Coloring,
    views: Sequence[View],
    params: IsomerParams,
    threads: int,
) -> Textured:
    """Bake. fine: as `coloring` describes it; normals (V, 3), its own; flat: `lay_flat` of it."""
    mesh, smooth, like, cut = flat.mesh, flat.normals, flat.like, flat.cut
    colors = bake_colors(
        mesh,
        smooth,
        cut.fragments,
        coloring.seen[:, like].T,
        coloring.colors[like] / 255.0,
        coloring,
        views,
        params,
        threads,
    )
    along, bumps = None, b""
    if params.normal_map:
        along = tangents(smooth[cut.origin], cut)
        bumps = png(bake_normals(mesh, smooth, cut, along, fine, normals, threads), threads)
    return Textured(
        mesh.vertices[cut.origin],
        cut.faces,
        smooth[cut.origin],
        cut.uv,
        colors,
        png(colors, threads),
        along,
        bumps,
        cut,
    )


def _reduced(fine: Mesh, most: int | None) -> Mesh:
    if most is None or len(fine.faces) <= most:
        return Mesh(fine.vertices, fine.faces)
    vertices, faces = decimate(fine.vertices, fine.faces, most)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def _alike(
    vertices: np.ndarray, normals: np.ndarray, fine: np.ndarray, fine_normals: np.ndarray
) -> np.ndarray:
    """(V,) for each vertex, the fine one near it whose normal is like its own."""
    from scipy.spatial import KDTree

    count = min(NEIGHBOURS, len(fine))
    away, near = KDTree(fine).query(vertices, k=list(range(1, count + 1)))
    agree = np.einsum("vkc,vc->vk", fine_normals[near], normals)
    best = (away + TURNED * (1.0 - agree)).argmin(axis=1)
    return near[np.arange(len(near)), best]
