"""Normals for meshes without: smooth where the surface bends, split where it has an edge."""

from __future__ import annotations

import numpy as np

from stages.geometry.numpy_edges import find_edges

CREASE = np.cos(np.deg2rad(40.0))
"""Faces that meet at more than that are two sides of an edge, as most programs have it: Blender
takes 30 degrees, older 3D programs up to 60."""


def creased_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3, 3) float32 unit normals of the corners of (F, 3) faces over (V, 3) vertices.

    Weighted by area over the faces around a vertex that hang together without an edge between.
    Corners of faces without area may get (0, 0, 1).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    weighted = np.cross(b - a, c - a)
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    unit = weighted / np.where(length > 0.0, length, 1.0)
    edges = find_edges(faces, len(vertices))
    sides = edges.of_side.reshape(-1)
    order = np.argsort(sides, kind="stable")
    pairs = (sides[order[1:]] == sides[order[:-1]]) & (edges.face_count[sides[order[1:]]] == 2)
    one, two = order[:-1][pairs], order[1:][pairs]
    corner = faces.reshape(-1)
    smooth = np.einsum("nc,nc->n", unit[one // 3], unit[two // 3]) > CREASE
    smooth &= corner[one] != corner[two]  # they run against each other
    one, two = one[smooth], two[smooth]
    end = np.arange(faces.size).reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)
    rows, columns = np.concatenate([one, end[one]]), np.concatenate([end[two], two])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(faces.size, faces.size))
    count, fan = connected_components(graph, directed=False)
    total = np.stack(
        [np.bincount(fan, np.repeat(weighted[:, axis], 3), minlength=count) for axis in range(3)],
        axis=1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    normals = np.where(length > 0.0, total / np.where(length > 0.0, length, 1.0), (0.0, 0.0, 1.0))
    return normals[fan].reshape(-1, 3, 3).astype(np.float32)
