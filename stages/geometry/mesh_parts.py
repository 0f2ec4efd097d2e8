"""Parts of a mesh that hang together."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components


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
