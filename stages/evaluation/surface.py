"""Distances between two surfaces, from seeded samples of either to the triangles of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.evaluation.tree import TriangleTree

TAU = 0.05
"""Share of half the truth's longest side within which a point counts as right."""
SAMPLES = 30_000


@dataclass(frozen=True)
class SurfaceScores:
    """How well a mesh matches a truth. Distances are point to triangle, in the meshes' unit (after
    `normalized`: half the longest side of the box).

    chamfer_l1          mean of `to_truth` and `from_truth`
    chamfer_l2          mean of the two mean squared distances
    to_truth            mean distance of the mesh' points to the truth
    from_truth          mean distance of the truth's points to the mesh
    precision           share of the mesh' points within `tau` of the truth
    recall              share of the truth's points within `tau` of the mesh
    f_score             harmonic mean of precision and recall
    normal_consistency  mean of |cos| between a point's face normal and that of the nearest face
                        of the other mesh, both ways; blind to the faces' winding
    tau                 in the unit of the distances
    counted             share of the truth's points that count (1 unless `outside_only`)
    """

    chamfer_l1: float
    chamfer_l2: float
    to_truth: float
    from_truth: float
    precision: float
    recall: float
    f_score: float
    normal_consistency: float
    tau: float
    counted: float


def normalized(mesh: Mesh) -> Mesh:
    """The mesh with its bounding box centred and the box' longest side 2 (nothing is turned).

    Vertices that no face uses do not count. Raises ValueError for a mesh without extent.
    """
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    low, high = used.min(axis=0), used.max(axis=0)
    side = float((high - low).max())
    if not side > 0.0:
        raise ValueError("the mesh is a single point")
    vertices = (mesh.vertices - (low + high) / 2.0) * (2.0 / side)
    return Mesh(vertices.astype(np.float32), mesh.faces, mesh.colors)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) float64 points, uniform by area, and (count,) ids of the faces that they lie on.

    Stratified: the i-th point lies in the i-th of `count` equal shares of the area in the order
    of the faces, which about halves the noise. Raises ValueError for a mesh without area.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    edges = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    ends = np.cumsum(areas)
    if not ends[-1] > 0.0:
        raise ValueError("the mesh has no area")
    generator = np.random.default_rng(seed)
    at = (np.arange(count) + generator.random(count)) / count * ends[-1]
    ids = np.minimum(np.searchsorted(ends, at, side="right"), np.flatnonzero(areas)[-1])
    # A square folded along its diagonal covers the triangle evenly.
    u, v = generator.random((2, count))
    folded = u + v > 1.0
    u, v = np.where(folded, 1.0 - u, u), np.where(folded, 1.0 - v, v)
    points = corners[ids, 0] + u[:, None] * edges[ids, 0] + v[:, None] * edges[ids, 1]
    return points, ids


def compare_surfaces(
    mesh: Mesh,
    truth: Mesh,
    tau: float = TAU,
    samples: int = SAMPLES,
    seed: int = 0,
    outside_only: bool = False,
) -> SurfaceScores:
    """Score `mesh` against `truth` as they lie; `normalized` both first where frames differ.

    tau           share of half the longest side of the truth's box
    samples       points on each mesh, drawn with the same seed
    outside_only  the truth's points that nothing outside can see do not count

    Raises ValueError for a mesh without area, or a truth that cannot be seen at all.
    """
    tree, truth_tree = (TriangleTree(m.vertices, m.faces) for m in (mesh, truth))
    reach = tau * _half_side(truth)
    points, ids = sample_surface(mesh.vertices, mesh.faces, samples, seed)
    truth_points, truth_ids = sample_surface(truth.vertices, truth.faces, samples, seed)
    counted = 1.0
    if outside_only:
        seen = truth_tree.seen_from_outside(truth_points)
        counted = float(seen.mean())
        if not counted:
            raise ValueError("no point of the truth can be seen from outside")
        truth_points, truth_ids = truth_points[seen], truth_ids[seen]
    there, hit = truth_tree.nearest(points)
    back, truth_hit = tree.nearest(truth_points)
    normals, truth_normals = _face_normals(mesh), _face_normals(truth)
    agree = np.abs((normals[ids] * truth_normals[hit]).sum(axis=1)).mean()
    agree_back = np.abs((truth_normals[truth_ids] * normals[truth_hit]).sum(axis=1)).mean()
    precision, recall = float((there <= reach).mean()), float((back <= reach).mean())
    return SurfaceScores(
        chamfer_l1=float(there.mean() + back.mean()) / 2.0,
        chamfer_l2=float((there**2).mean() + (back**2).mean()) / 2.0,
        to_truth=float(there.mean()),
        from_truth=float(back.mean()),
        precision=precision,
        recall=recall,
        f_score=2.0 * precision * recall / max(precision + recall, 1e-12),
        normal_consistency=float(agree + agree_back) / 2.0,
        tau=reach,
        counted=counted,
    )


def _half_side(mesh: Mesh) -> float:
    used = mesh.vertices[np.unique(mesh.faces)]
    return float((used.max(axis=0) - used.min(axis=0)).max()) / 2.0


def _face_normals(mesh: Mesh) -> np.ndarray:
    """(F, 3) float64 unit normals, 0 for faces without area."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0.0, length, 1.0)
