"""Parts of a mesh that hang together."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

FLAT = 1e-9
"""A part with less volume than this, as a share of the longest side cubed, is a sheet."""


def part_of_faces(faces: np.ndarray, vertices: int) -> np.ndarray:
    """(F,) int: the number of each face's part; parts have no vertex in common. Numbers start at 0,
    and those of vertices that no face has are left out in between.

    faces     (F, 3) int
    vertices  how many there are
    """
    links = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sp.coo_array(
        (np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(vertices, vertices)
    )
    return np.asarray(connected_components(graph, directed=False)[1][faces[:, 0]])


def in_flat_parts(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, int]:
    """(F,) bool, faces of parts that enclose nothing, and how many such parts there are.

    vertices  (V, 3) float; faces (F, 3) int. Of a closed mesh: an open part has no volume to say.
    """
    part = part_of_faces(faces, len(vertices))
    # Measured from a point of each part: far from the middle little volume would be lost in noise.
    _, first = np.unique(part, return_index=True)
    origin = np.zeros((int(part.max()) + 1, 3))
    origin[part[first]] = vertices[faces[first, 0]]
    a, b, c = (vertices[faces[:, k]] - origin[part] for k in range(3))
    inside = np.bincount(part, np.einsum("fc,fc->f", a, np.cross(b, c)) / 6.0)
    longest = float(np.ptp(vertices[np.unique(faces)], axis=0).max())
    flat = (np.abs(inside) < FLAT * longest**3)[part]
    return flat, len(np.unique(part[flat]))
