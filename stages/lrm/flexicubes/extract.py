"""FlexiCubes: the zero level of a signed field as a mesh, with learned weights a cube.

Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization", ACM Trans.
Graph. 42 (2023), at inference: dual marching cubes, whose vertices the weights alpha and beta move
inside their cubes, and whose quads gamma cuts into triangles. Formulas: docs/stages/flexicubes.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.lrm.flexicubes.grid import cube_corners, unravel, vertex_count, vertex_positions
from stages.lrm.flexicubes.tables import AROUND, CORNERS, EDGES, FACE_DIRECTIONS, tables

CubeWeights = Callable[[Tensor], Tensor]
"""(M,) int64 cube indices -> (M, 21) raw weights: 12 edges, 8 corners, 1 for the quads' cut."""

WEIGHTS = len(EDGES) + len(CORNERS) + 1
WEIGHT_SCALE = 0.5
"""How far the weights may move from their neutral value; the checkpoint was trained with this."""
CHUNK = 1 << 16
"""Cubes whose weights and vertices are computed at once: some 50 MB of intermediate values."""


class NoSurfaceError(ValueError):
    """The field has no zero level inside the grid.

    inside  share of the grid's vertices with a negative value: 0 if nothing is inside, 1 if all is
    """

    def __init__(self, inside: float) -> None:
        self.inside = inside
        super().__init__(
            f"the field has no surface inside the grid: {100.0 * inside:.3g} % of it is negative"
        )


@dataclass(frozen=True)
class SurfaceCubes:
    """The cubes that the surface crosses.

    cubes         (M,) int64 ascending
    cases         (M,) int64, ambiguities resolved
    first_vertex  (M,) int64, number of the cube's first dual vertex
    vertices      how many dual vertices there are in all
    """

    cubes: Tensor
    cases: Tensor
    first_vertex: Tensor
    vertices: int


def extract(
    sdf: Tensor, deformation: Tensor, cube_weights: CubeWeights, resolution: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Extract the surface of a field that is negative inside.

    sdf           (N,) float32 at the grid's N = (R + 1)^3 vertices (`grid`)
    deformation   (N, 3) float32, what moves those vertices, in the field's units; less than half a
                  cube each way, or cubes fold over
    cube_weights  called with at most `CHUNK` surface cubes at a time, never with others
    resolution    R
    scale         side of the grid

    Returns vertices (V, 3) float32 and faces (F, 3) int64 on the field's device, in its frame,
    counter-clockwise from outside. A field that is positive all over the grid's border gives a
    closed manifold; elsewhere the surface ends at the border, and vertices next to it may belong
    to no face. The same arguments give the same bits on one device.

    Raises NoSurfaceError, and ValueError for arrays of another shape or a field that is not finite.
    """
    count = vertex_count(resolution)
    if sdf.shape != (count,) or deformation.shape != (count, 3):
        raise ValueError(
            f"resolution {resolution} needs sdf ({count},) and deformation ({count}, 3), not "
            f"{tuple(sdf.shape)} and {tuple(deformation.shape)}"
        )
    if not bool(sdf.isfinite().all()):
        raise ValueError("the field has values that are not finite")
    with torch.no_grad():
        inside = (sdf < 0.0).reshape((resolution + 1,) * 3)
        surface = find_surface_cubes(inside)
        parts, gamma = [], [sdf.new_zeros(0)]
        for start in range(0, len(surface.cubes), CHUNK):
            chunk = slice(start, start + CHUNK)
            cubes, cases = surface.cubes[chunk], surface.cases[chunk]
            weights = cube_weights(cubes)
            if weights.shape != (len(cubes), WEIGHTS):
                raise ValueError(
                    f"{len(cubes)} cubes need weights ({len(cubes)}, {WEIGHTS}), not "
                    f"{tuple(weights.shape)}"
                )
            weights = weights.to(torch.float32)
            parts.append(_dual_vertices(cubes, cases, weights, sdf, deformation, resolution, scale))
            gamma.append(weights[:, -1].sigmoid() * WEIGHT_SCALE + (1.0 - WEIGHT_SCALE) / 2.0)
        faces = _faces(inside, surface, torch.cat(gamma))
        if not len(faces):
            raise NoSurfaceError(float(inside.float().mean()))
        return torch.cat(parts), faces


def find_surface_cubes(inside: Tensor) -> SurfaceCubes:
    """The cubes of a (R + 1, R + 1, R + 1) bool grid with corners both inside and outside."""
    resolution, device = len(inside) - 1, inside.device
    cases = torch.zeros((resolution,) * 3, dtype=torch.uint8, device=device)
    for corner, (dx, dy, dz) in enumerate(CORNERS.tolist()):
        near = inside[dx : dx + resolution, dy : dy + resolution, dz : dz + resolution]
        cases |= near.to(torch.uint8) << corner
    grid = cases.reshape(-1)
    cubes = torch.nonzero((grid != 0) & (grid != 255))[:, 0]
    resolved = _resolve(cubes, grid, resolution)
    count = _table(tables().group_count, device)[resolved]
    after = count.cumsum(0)
    return SurfaceCubes(cubes, resolved, after - count, int(after[-1]) if len(after) else 0)


def _resolve(cubes: Tensor, grid: Tensor, resolution: int) -> Tensor:
    """(M,) int64 cases of surface cubes: complemented in pairs that would share a mesh edge twice.

    The complement has the same active edges, but its groups keep those of the ambiguous face apart.
    grid (R^3,) uint8 cases as they are.
    """
    cases = grid[cubes].to(torch.int64)
    ambiguous_face = _table(tables().ambiguous_face, cubes.device)
    suspects = torch.nonzero(ambiguous_face[cases] >= 0)[:, 0]
    face = ambiguous_face[cases[suspects]]
    place = unravel(cubes[suspects], resolution) + _table(FACE_DIRECTIONS, cubes.device)[face]
    within = ((place >= 0) & (place < resolution)).all(dim=1)
    suspects, place = suspects[within], place[within]
    x, y, z = place.unbind(-1)
    # A case has one such face at most, so the neighbour's can only be the shared one.
    across = grid[(x * resolution + y) * resolution + z].to(torch.int64)
    both = suspects[ambiguous_face[across] >= 0]
    cases[both] = 255 - cases[both]
    return cases


def _dual_vertices(
    cubes: Tensor,
    cases: Tensor,
    weights: Tensor,
    sdf: Tensor,
    deformation: Tensor,
    resolution: int,
    scale: float,
) -> Tensor:
    """(v, 3) dual vertices of cubes (m,), cube by cube and group by group.

    On edge (a, b) the surface crosses at u = (x_a alpha_b s_b - x_b alpha_a s_a) / (alpha_b s_b -
    alpha_a s_a); a dual vertex is the mean of its group's u, weighted by beta.
    """
    edge_count = len(EDGES)
    beta = weights[:, :edge_count].tanh() * WEIGHT_SCALE + 1.0
    alpha = weights[:, edge_count:-1].tanh() * WEIGHT_SCALE + 1.0
    corners = cube_corners(cubes, resolution)
    positions = vertex_positions(corners, resolution, scale) + deformation[corners]
    level = alpha * sdf[corners]
    a, b = _table(EDGES, cubes.device).unbind(-1)
    group_of_edge = _table(tables().group_of_edge, cubes.device)[cases]
    span = level[:, a] - level[:, b]
    # In this form between a and b whatever the rounding; inactive edges have weight 0 below.
    along = torch.where(group_of_edge >= 0, level[:, a] / span, 0.0)[..., None]
    crossings = positions[:, a] + along * (positions[:, b] - positions[:, a])

    count = _table(tables().group_count, cubes.device)[cases]
    owner = torch.repeat_interleave(torch.arange(len(cubes), device=cubes.device), count)
    group = torch.arange(len(owner), device=cubes.device) - (count.cumsum(0) - count)[owner]
    share = torch.where(group_of_edge[owner] == group[:, None], beta[owner], 0.0)
    # Sums over a fixed axis, not scattered ones: those are not repeatable on CUDA.
    return (share[..., None] * crossings[owner]).sum(dim=1) / share.sum(dim=1, keepdim=True)


def _faces(inside: Tensor, surface: SurfaceCubes, gamma: Tensor) -> Tensor:
    """(F, 3) int64: two triangles for each grid edge that the surface crosses between four cubes.

    gamma (M,) of the surface cubes.
    """
    resolution, device = len(inside) - 1, inside.device
    slots = torch.zeros(resolution**3, dtype=torch.int32, device=device)
    slots[surface.cubes] = torch.arange(len(surface.cubes), dtype=torch.int32, device=device)
    group_of_edge = _table(tables().group_of_edge, device)
    triangles = []
    for axis in range(3):
        start = inside.narrow(axis, 0, resolution)
        crossed = start != inside.narrow(axis, 1, resolution)
        low = [0 if other == axis else 1 for other in range(3)]
        x, y, z = (slice(lowest, resolution) for lowest in low)
        place = torch.nonzero(crossed[x, y, z]) + torch.tensor(low, device=device)
        steps = _table(np.insert(AROUND, axis, 0, axis=1), device)
        i, j, k = (place[:, None] - steps).unbind(-1)
        slot = slots[(i * resolution + j) * resolution + k].to(torch.int64)
        edges = _table(tables().edge_around[axis], device)
        corners = surface.first_vertex[slot] + group_of_edge[surface.cases[slot], edges]

        i, j, k = place.unbind(-1)
        leaving = start[i, j, k]
        if axis == 1:  # the cubes go round y the other way: (x, z) is a left-handed pair of axes
            leaving = ~leaving
        order = torch.where(
            leaving[:, None],
            torch.tensor((2, 3, 1, 0), device=device),
            torch.tensor((0, 1, 3, 2), device=device),
        )
        quads, weights = corners.gather(1, order), gamma[slot].gather(1, order)
        first = weights[:, 0] * weights[:, 2] > weights[:, 1] * weights[:, 3]
        cut = torch.where(
            first[:, None],
            torch.tensor((0, 1, 2, 0, 2, 3), device=device),
            torch.tensor((0, 1, 3, 3, 1, 2), device=device),
        )
        triangles.append(quads.gather(1, cut).reshape(-1, 3))
    return torch.cat(triangles)


def _table(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, torch.int64)
