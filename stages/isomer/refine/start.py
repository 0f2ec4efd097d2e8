"""Where to start from: the coarse mesh, or one integrated anew from the normal maps.

Refinement moves a surface by a few edge lengths. From the hull of four silhouettes, whose diagonals
stand out by a tenth of the object, fifty steps of the reference recover a third of the way. A field
fitted to the same normal maps (stages/lrm/hull) goes most of it in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.contract import BadInput
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import look, vertex_normals
from stages.isomer.refine.targets import Targets
from stages.isomer.refine.unseen import eaten, shown

StartFrom = Literal["auto", "mesh", "fused"]

FAR = 13.0
"""Degrees of mean disagreement from which a mesh counts as far off. Hulls of four views have 15 (a
ball) to 23, hulls of 34 views 5 to 11, fused fields 2 to 12 (ball, urn, dog, vase and helmet with
perfect bundles)."""
SOLID = 0.99


@dataclass(frozen=True)
class Start:
    """A mesh to refine, vertices (V, 3) and faces (F, 3), and why it was taken.

    fused  made of the pictures themselves: it knows no more than they do
    """

    vertices: np.ndarray
    faces: np.ndarray
    note: str
    fused: bool = False


def choose_start(
    vertices: np.ndarray,
    faces: np.ndarray,
    source: StartFrom,
    targets: Targets,
    normal_tiles: np.ndarray,
    radius: float,
    rasterizer: Rasterizer,
    threads: int,
    largest: int,
) -> Start:
    """The coarse mesh unless `source` is "fused", or "auto" and the mesh is far off.

    With "auto" also where the fused mesh lacks what no view shows: a flat top has no normal that
    the views agree about, and the pictures are as well explained without it.

    normal_tiles (K, S, S, 3) in the bundle's encoding. largest: vertices that a fused mesh may have
    with "auto"; from normal maps of noise it has millions, and is none.

    Raises BadInput if a fused start is asked for and the silhouettes have no point in common.
    """
    given = Start(vertices, faces, "from the coarse mesh")
    if source == "mesh":
        return given
    angle = disagreement(vertices, faces, targets, rasterizer)
    if source == "auto" and angle < FAR:
        return given
    try:
        fused: Start | None = _fuse(normal_tiles, targets.coverage, radius, threads)
    except BadInput:
        if source == "fused":
            raise
        fused = None
    if fused is None or (source == "auto" and len(fused.vertices) > largest):
        return Start(vertices, faces, "from the coarse mesh: the normal maps fit no solid")
    fused_angle = disagreement(fused.vertices, fused.faces, targets, rasterizer)
    if source == "auto" and fused_angle >= angle:
        return given
    if source == "auto":
        share = shown(vertices, faces, targets.views(rasterizer))
        if eaten(vertices, share, fused.vertices):
            return Start(vertices, faces, "from the coarse mesh: only it has what no view shows")
    return fused


def disagreement(
    vertices: np.ndarray, faces: np.ndarray, targets: Targets, rasterizer: Rasterizer
) -> float:
    """Mean angle in degrees between the normals of a mesh and those of the pictures.

    Over all pixels that both cover; 180 if there is none.
    """
    normals = vertex_normals(vertices, faces)
    cosines = []
    for camera, picture, cover in zip(
        targets.cameras, targets.normals, targets.coverage, strict=True
    ):
        fragments = look(vertices, faces, camera, len(cover), 1, rasterizer)
        both = fragments.covered & (cover > SOLID)
        ours = interpolate(fragments, faces, normals)[both]
        wanted = 2.0 * picture[both] - 1.0
        length = np.linalg.norm(ours, axis=1) * np.linalg.norm(wanted, axis=1)
        cosines.append((ours * wanted).sum(axis=1) / np.maximum(length, 1e-9))
    every = np.clip(np.concatenate(cosines), -1.0, 1.0)
    return float(np.rad2deg(np.arccos(every)).mean()) if len(every) else 180.0


def misfit(
    vertices: np.ndarray, faces: np.ndarray, targets: Targets, rasterizer: Rasterizer
) -> float:
    """Mean squared length between the normals of a mesh and those of the pictures.

    Over all pixels that one of them covers; what does not cover a pixel has no length there.
    """
    normals = vertex_normals(vertices, faces)
    total, count = 0.0, 0
    for camera, picture, mask in zip(targets.cameras, targets.normals, targets.mask, strict=True):
        fragments = look(vertices, faces, camera, len(mask), 1, rasterizer)
        either = fragments.covered | mask
        ours = np.where(fragments.covered[..., None], interpolate(fragments, faces, normals), 0.0)
        wanted = np.where(mask[..., None], 2.0 * picture - 1.0, 0.0)
        total += float(np.square(ours - wanted)[either].sum())
        count += int(either.sum())
    return total / max(1, count)


def _fuse(normal_tiles: np.ndarray, coverage: np.ndarray, radius: float, threads: int) -> Start:
    from stages.geometry.normal_fusion.params import ReconstructParams
    from stages.geometry.normal_fusion.reconstruct import mesh_from_normals

    params = ReconstructParams(radius=radius)
    mesh = mesh_from_normals(normal_tiles, coverage, params, threads, lambda step, total: None)
    return Start(mesh.vertices, mesh.faces, "from a mesh fused from the normal maps", fused=True)
