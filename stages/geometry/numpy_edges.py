"""Edges of a triangle mesh and who lies on either side of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Edges:
    """Unique undirected edges.

    ends         (E, 2) int64, lower vertex first, lexicographically sorted
    of_side      (F, 3) int64, edge of the side from corner k to corner k + 1
    face_count   (E,) int64, faces that share the edge: 1 at a border, 2 inside
    across       (E, 2) int64, the opposite corners where face_count is 2, else -1
    """

    ends: np.ndarray
    of_side: np.ndarray
    face_count: np.ndarray
    across: np.ndarray

    @property
    def on_border(self) -> np.ndarray:
        """(E,) bool: not shared by exactly two faces (open or non-manifold)."""
        return self.face_count != 2


def find_edges(faces: np.ndarray, vertex_count: int) -> Edges:
    """The edges of (F, 3) faces over `vertex_count` vertices."""
    corners = faces.astype(np.int64)
    sides = np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1).reshape(-1, 2)
    opposite = np.roll(corners, -2, axis=1).reshape(-1)
    key = sides.min(axis=1) * vertex_count + sides.max(axis=1)
    unique, first, inverse, count = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
    )
    # The two opposite corners sum up to a total from which the first one is taken away.
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, inverse, opposite)
    across = np.stack([opposite[first], total - opposite[first]], axis=1)
    across[count != 2] = -1
    ends = np.stack([unique // vertex_count, unique % vertex_count], axis=1)
    return Edges(ends, inverse.reshape(-1, 3), count, across)


def adjacency(edges: np.ndarray, vertex_count: int) -> csr_array:
    """(V, V) float64 sparse matrix with a 1 for every pair of neighbours."""
    from scipy.sparse import csr_array

    rows = np.concatenate([edges[:, 0], edges[:, 1]]).astype(np.int32)
    columns = np.concatenate([edges[:, 1], edges[:, 0]]).astype(np.int32)
    values = np.ones(len(rows))
    return csr_array((values, (rows, columns)), shape=(vertex_count, vertex_count))


def compact(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop faces that name a vertex twice, repeated faces and vertices that no face uses."""
    ordered = np.sort(faces, axis=1)
    proper = (ordered[:, 0] != ordered[:, 1]) & (ordered[:, 1] != ordered[:, 2])
    low, mid, high = ordered.astype(np.int64).T
    # Two faces over the same corners are one; which of them is kept does not matter to Loop.
    pair = np.unique(low * len(vertices) + mid, return_inverse=True)[1]
    _, first = np.unique(pair * np.int64(len(vertices)) + high, return_index=True)
    keep = np.zeros(len(faces), bool)
    keep[first] = True
    faces = faces[keep & proper]
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3).astype(np.int32)
