"""The files of a finished mesh by the names of their artifacts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stages.contract import Mesh, artifacts

if TYPE_CHECKING:
    from stages.isomer.export import Axes, Textured


def moved_back(points: np.ndarray, place: np.ndarray | None) -> np.ndarray:
    """(V, 3) float32 points of `given_mesh`, where they were in its file (`given_place`); None: as
    they are."""
    if place is None:
        return points
    return (points.astype(np.float64) / place[3] + place[:3]).astype(np.float32)


def put_back(mesh: Mesh, place: np.ndarray | None) -> Mesh:
    """The same of a mesh."""
    return replace(mesh, vertices=moved_back(mesh.vertices, place))


def colored_files(mesh: Mesh, normals: np.ndarray, axes: Axes) -> dict[str, bytes]:
    """Of a mesh with colours at its vertices and no texture."""
    from stages.isomer import export

    return {
        artifacts.GLB.name: export.glb(mesh, normals, axes),
        artifacts.OBJ.name: export.obj(mesh, normals, axes),
    }


def textured_files(
    textured: Textured, fine: Mesh, fine_normals: np.ndarray, axes: Axes
) -> dict[str, bytes]:
    """Of a mesh with a texture, and of the finer one with colours at its vertices."""
    from stages.isomer import export

    files = {
        artifacts.GLB.name: export.textured_glb(textured, axes),
        artifacts.OBJ.name: export.textured_obj(textured, axes),
        artifacts.OBJ_MATERIAL.name: export.material(bool(textured.normal_png)),
        artifacts.TEXTURE.name: textured.color_png,
        artifacts.FULL_MESH.name: export.ply(fine, fine_normals, axes),
    }
    if textured.normal_png:
        files[artifacts.NORMAL_MAP.name] = textured.normal_png
    return files
