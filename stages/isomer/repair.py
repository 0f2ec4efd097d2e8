"""Where a mesh is no surface: vertices at which sheets only touch, edges of three or more faces."""

from __future__ import annotations

from typing import Literal

import numpy as np

from stages.geometry.numpy_edges import Edges, find_edges

Repair = Literal["split", "remove"]
"""What is done at an edge of more than two faces: cut the sheets apart that meet there, or remove
the smallest faces until two are left (the reference)."""

APART = 5e-5
"""How far touching sheets are moved apart, as a share of the longest side: 5 micrometres of 100 mm,
a twentieth of a printed layer."""
TRIES = 6
"""Times that this is done, each farther, until no two vertices share a place."""


def repair(vertices: np.ndarray, faces: np.ndarray, how: Repair) -> tuple[np.ndarray, np.ndarray]:
    """Give each sheet vertices of its own.

    split   every fan of faces that hang together gets a vertex of its own; no face is lost
    remove  as MeshLab's repair of non-manifold vertices, then edges: vertices at edges of three or
            more faces stay, then of the faces at such edges the smallest go first

    vertices (V, 3), faces (F, 3); returns the like, old vertices first.
    """
    edges = find_edges(faces, len(vertices))
    crowded = edges.face_count > 2
    at_crowd = np.zeros(len(vertices), bool)
    at_crowd[edges.ends[crowded]] = True
    fans = _fans(faces, edges)
    if how == "remove":
        fans = np.where(at_crowd[faces], -1, fans)
    vertices, faces = _split(vertices, faces, fans)
    if how == "remove" and crowded.any():
        faces = _without_smallest(vertices, faces)
    return vertices, faces


def moved_apart(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) of which no two share a place, those that did moved inwards by a hair.

    A reader that joins vertices of one place would join sheets that only touch there, and find
    edges of four faces. Places are compared as float32, as files have them.
    """
    from stages.geometry.render import vertex_normals

    used = np.unique(faces)
    step = APART * float(np.ptp(vertices[used], axis=0).max())
    for _ in range(TRIES):
        _, inverse, count = np.unique(
            vertices.astype(np.float32), axis=0, return_inverse=True, return_counts=True
        )
        shared = np.zeros(len(vertices), bool)
        shared[used] = count[inverse.reshape(-1)[used]] > 1
        if not shared.any():
            break
        inwards = vertex_normals(vertices, faces)[shared].astype(np.float64)
        vertices = vertices.copy()
        vertices[shared] = (vertices[shared] - step * inwards).astype(np.float32)
        step *= 1.7
    return vertices


def _fans(faces: np.ndarray, edges: Edges) -> np.ndarray:
    """(F, 3) a number at each corner: equal where faces around a vertex hang together.

    Faces hang together at an edge of two, and of any odd number: sheets that cross there would come
    in pairs, and cutting off a fin would cut the surface that it stands on.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    sides = edges.of_side.reshape(-1)
    ordered = np.argsort(sides, kind="stable")
    joins = (edges.face_count == 2) | (edges.face_count % 2 == 1)
    beside = (sides[ordered[1:]] == sides[ordered[:-1]]) & joins[sides[ordered[1:]]]
    one, two = ordered[:-1][beside], ordered[1:][beside]
    corner = faces.reshape(-1)
    end = np.arange(faces.size).reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)
    # Sides of an edge may run either way.
    opposed = corner[one] != corner[two]
    rows = np.concatenate([one, end[one]])
    columns = np.concatenate([np.where(opposed, end[two], two), np.where(opposed, two, end[two])])
    links = np.ones(len(rows), bool)
    graph = csr_array((links, (rows, columns)), shape=(faces.size, faces.size))
    return np.asarray(connected_components(graph, directed=False)[1]).reshape(-1, 3)


def _split(
    vertices: np.ndarray, faces: np.ndarray, fans: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A vertex for each pair of vertex and fan; the first fan of a vertex keeps it."""
    corner, fan = faces.reshape(-1).astype(np.int64), fans.reshape(-1).astype(np.int64) + 1
    _, first, inverse = np.unique(
        corner * (int(fan.max()) + 1) + fan, return_index=True, return_inverse=True
    )
    owner = corner[first]
    extra = np.concatenate([[False], owner[1:] == owner[:-1]])
    number = owner.copy()
    number[extra] = len(vertices) + np.arange(int(extra.sum()))
    split = number[inverse].reshape(faces.shape).astype(faces.dtype)
    return np.concatenate([vertices, vertices[owner[extra]]]), split


def _without_smallest(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces left when those at edges of three or more faces go, the smallest first, until each has
    two."""
    edges = find_edges(faces, len(vertices))
    count = edges.face_count.copy()
    corners = vertices[faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    crowded = np.flatnonzero((count[edges.of_side] > 2).any(axis=1))
    kept = np.ones(len(faces), bool)
    for face in crowded[np.argsort(area[crowded], kind="stable")]:
        sides = edges.of_side[face]
        if (count[sides] > 2).any():
            kept[face] = False
            count[sides] -= 1
    return faces[kept]
