"""Where to start from: the coarse mesh, or one integrated anew from the normal maps.

Refinement moves a surface by a few edge lengths. From the hull of four silhouettes, whose diagonals
stand out by a tenth of the object, fifty steps of the reference recover a third of the way. A field
fitted to the same normal maps (stages/lrm/hull) goes most of it in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stages.contract import BadInput
from stages.geometry.diffrender.samples import sample
from stages.geometry.diffrender.views import Views
from stages.geometry.torch_edges import vertex_normals
from stages.isomer.check import disagreement
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
    views: Views,
    threads: int,
    largest: int,
) -> Start:
    """The coarse mesh unless `source` is "fused", or "auto" and the mesh is far off.

    With "auto" also where the fused mesh lacks what no view shows: a flat top has no normal that
    the views agree about, and the pictures are as well explained without it.

    normal_tiles (K, S, S, 3) in the bundle's encoding. views: those of the targets. largest:
    vertices that a fused mesh may have with "auto"; from normal maps of noise it has millions, and
    is none.

    Raises BadInput if a fused start is asked for and the silhouettes have no point in common.
    """
    given = Start(vertices, faces, "from the coarse mesh")
    if source == "mesh":
        return given
    angle = angle_to(targets, vertices, faces, views)
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
    fused_angle = angle_to(targets, fused.vertices, fused.faces, views)
    if source == "auto" and fused_angle >= angle:
        return given
    if source == "auto":
        share = shown(vertices, faces, views)
        if eaten(vertices, share, fused.vertices):
            return Start(vertices, faces, "from the coarse mesh: only it has what no view shows")
    return fused


def angle_to(targets: Targets, vertices: np.ndarray, faces: np.ndarray, views: Views) -> float:
    """`check.disagreement` of a mesh with the targets. views: theirs."""
    return disagreement(
        vertices,
        faces,
        lambda k, inside: 2.0 * targets.normals[k][inside] - 1.0,
        targets.coverage > SOLID,
        targets.cameras,
        views.rasterizer,
        views.threads,
    )


def misfit(vertices: np.ndarray, faces: np.ndarray, targets: Targets, views: Views) -> float:
    """Mean squared length between the normals of a mesh and those of the pictures.

    Over all pixels that one of them covers; what does not cover a pixel has no length there.
    """
    ours, covered = _drawn(vertices, faces, views)
    mask = torch.from_numpy(targets.mask).to(covered.device)
    wanted = _wanted(targets, covered.device) * mask[..., None]
    total = (ours - wanted).square().sum(dtype=torch.float64)
    return float(total / (covered | mask).sum().clamp(min=1))


def _drawn(vertices: np.ndarray, faces: np.ndarray, views: Views) -> tuple[Tensor, Tensor]:
    """Normals (K, S, S, 3) float32, 0 where there is no mesh, and (K, S, S) bool where there is."""
    points, triangles = views.tensors(vertices, faces)
    visible = views.look(points, triangles)
    samples = sample(views.to_clip(points), triangles, visible)
    shaded = samples.fill(samples.interpolate(vertex_normals(points, triangles)), 0.0)
    return visible.region.whole(shaded), visible.face >= 0


def _wanted(targets: Targets, device: torch.device) -> Tensor:
    """(K, S, S, 3) float32, the pictures' normals as vectors."""
    return torch.from_numpy(2.0 * targets.normals - 1.0).to(device, torch.float32)


def _fuse(normal_tiles: np.ndarray, coverage: np.ndarray, radius: float, threads: int) -> Start:
    from stages.geometry.normal_fusion.params import ReconstructParams
    from stages.geometry.normal_fusion.reconstruct import mesh_from_normals

    params = ReconstructParams(radius=radius)
    mesh = mesh_from_normals(normal_tiles, coverage, params, threads, lambda step, total: None)
    return Start(mesh.vertices, mesh.faces, "from a mesh fused from the normal maps", fused=True)
