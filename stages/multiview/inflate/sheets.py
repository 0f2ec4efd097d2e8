"""Two height fields over one silhouette, welded along its outline into a closed mesh.

Every grid cell is cut along the outline as marching squares does; the cells' polygons are
triangulated twice, once for the front and once for the back, and share the outline's vertices.
Cells whose corners are inside crosswise are cut into two triangles, and no triangle joins two
outline vertices by an inner edge, so every edge has exactly two faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.ndimage import map_coordinates

from stages.geometry.cameras import Camera
from stages.geometry.render import vertex_normals
from stages.multiview.inflate.fringe import Fringe

# Corners of a cell as (row, column), counter-clockwise in an image with rows downwards.
CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
# Polygons by the bits of the corners inside: 0-3 are corners, 4-7 the outline's crossing of the
# side from corner k - 4 to the next. The first entry is the fan's apex, always a corner.
POLYGONS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0, 4, 7),),
    2: ((1, 5, 4),),
    3: ((0, 1, 5, 7),),
    4: ((2, 6, 5),),
    5: ((0, 4, 7), (2, 6, 5)),
    6: ((1, 2, 6, 4),),
    7: ((1, 2, 6, 7, 0),),
    8: ((3, 7, 6),),
    9: ((3, 0, 4, 6),),
    10: ((1, 5, 4), (3, 7, 6)),
    11: ((0, 1, 5, 6, 3),),
    12: ((2, 3, 7, 5),),
    13: ((3, 0, 4, 5, 2),),
    14: ((2, 3, 7, 4, 1),),
    15: ((0, 1, 2, 3),),
}


ROUNDS = 4
"""Of smoothing the normals beside the outline, and the line of nodes along it."""


@dataclass(frozen=True)
class Body:
    """A closed mesh in frame W; its first `front_faces` faces are the sheet towards the camera.

    normals  (V, 3) unit, smooth
    """

    vertices: np.ndarray
    faces: np.ndarray
    front_faces: int
    normals: np.ndarray


@dataclass(frozen=True)
class Depths:
    """Where the sheets lie: (N, N) each, depth along the camera's optical axis, scene units.

    front, back  of the two sheets; front <= back
    rim          of the outline that they share, between both; read where the outline runs
    """

    front: np.ndarray
    back: np.ndarray
    rim: np.ndarray


def weld(coverage: np.ndarray, at: Depths, camera: Camera) -> Body:
    """Build the mesh whose silhouette from `camera` is the 0.5 contour of `coverage`.

    coverage  (N, N) in [0, 1] at the centres of N x N pixels of the camera's image; its border must
              lie outside (<= 0.5)
    """
    size = len(coverage)
    inside = coverage > 0.5
    cell = np.zeros((size - 1, size - 1), np.int64)
    for k, (y, x) in enumerate(CORNERS):
        cell |= inside[y : size - 1 + y, x : size - 1 + x].astype(np.int64) << k
    # Node ids: (row, column) -> row * size + column; crossings of vertical, then horizontal sides.
    total = size * size
    triangles = []
    for code, polygons in POLYGONS.items():
        i, j = np.nonzero(cell == code)
        node = [(i + y) * size + j + x for y, x in CORNERS]
        cross = [
            total + node[0],
            2 * total + node[1],
            total + node[3],
            2 * total + node[0],
        ]
        ids = [*node, *cross]
        for polygon in polygons:
            for second, third in pairwise(polygon[1:]):
                triangles.append(np.stack([ids[polygon[0]], ids[second], ids[third]], axis=1))
    faces = np.concatenate(triangles)

    used = np.unique(faces)
    is_node = used < total
    nodes, crossings = used[is_node], used[~is_node]
    rim_at = _crossing_positions(coverage, crossings, total)
    node_at = _without_stairs(nodes, faces, size)
    corners = np.concatenate([rim_at, node_at, node_at])
    rim_depth = map_coordinates(at.rim, rim_at.T, order=1)
    fringe = Fringe(node_at, rim_at)
    welded = [Fringe(rim_at, rim_at).even(rim_depth)]
    for sheet in (at.front, at.back):
        breadth = 2.0 * sheet / (camera.focal * size)  # of a node there
        steep = np.hypot(*np.gradient(sheet)) / breadth
        depths, steepness = (map_coordinates(one, node_at.T, order=1) for one in (sheet, steep))
        welded.append(fringe.even(fringe.rounded(depths, rim_depth, steepness)))
    depth = np.concatenate(welded)
    vertices = _points(corners, depth, size, camera)

    front_id = np.empty(3 * total, np.int64)
    front_id[crossings] = np.arange(len(crossings))
    front_id[nodes] = len(crossings) + np.arange(len(nodes))
    back_id = front_id.copy()
    back_id[nodes] += len(nodes)
    both = np.concatenate([front_id[faces], back_id[faces[:, ::-1]]])
    normals = _smooth_beside_the_outline(vertex_normals(vertices, both), both, len(crossings))
    return Body(
        vertices.astype(np.float32), both.astype(np.int32), len(faces), normals.astype(np.float32)
    )


def _smooth_beside_the_outline(normals: np.ndarray, faces: np.ndarray, rim: int) -> np.ndarray:
    """(V, 3) unit normals, smoothed over the faces that touch the first `rim` vertices or their
    neighbours: a wall that is one cell wide has the outline's stairs in its normals."""
    near = np.zeros(len(normals), bool)
    near[:rim] = True
    for _ in range(2):
        band = faces[near[faces].any(axis=1)]
        near[band] = True
    pairs = np.concatenate([band[:, [0, 1]], band[:, [1, 2]], band[:, [2, 0]]])
    links = sp.csr_matrix(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(normals),) * 2
    )
    for _ in range(ROUNDS):
        mean = normals + links @ normals
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
        normals = np.where(near[:, None], mean, normals)
    return normals


def _without_stairs(nodes: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """(M, 2) float64 (row, column) of the grid's nodes (M,), those beside the outline moved onto a
    smooth line along it: walls begin there, and would have the grid's stairs as ripples. Parts too
    thin to have other nodes stay as they are.

    faces  (F, 3) ids of nodes, below the number of the grid's, size * size, and of crossings
    """
    total = size * size
    at = np.stack(np.divmod(nodes, size), axis=1).astype(np.float64)
    own = np.full(3 * total, -1)
    own[nodes] = np.arange(len(nodes))
    beside = np.zeros(3 * total, bool)
    beside[faces[(faces >= total).any(axis=1)]] = True
    beside[total:] = False
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    inner = ~beside & (np.arange(3 * total) < total)
    moved = np.zeros(len(at), bool)
    moved[own[sides[beside[sides].any(axis=1) & inner[sides].any(axis=1)]].ravel()] = True
    first, second = own[sides[beside[sides].all(axis=1)]].T
    links = sp.csr_matrix((np.ones(len(first)), (first, second)), shape=(len(at),) * 2)
    links = links + links.T + sp.identity(len(at), format="csr")
    links.data[:] = 1.0
    for _ in range(ROUNDS):
        at = np.where(moved[:, None], links @ at / links.sum(axis=1), at)
    return np.asarray(at)


def _crossing_positions(coverage: np.ndarray, ids: np.ndarray, total: int) -> np.ndarray:
    """(C, 2) float64 (row, column) where the outline crosses a cell's side."""
    size = len(coverage)
    horizontal = ids >= 2 * total
    row, column = np.divmod(ids % total, size)
    other = coverage[row + ~horizontal, column + horizontal]
    own = coverage[row, column]
    share = np.clip((own - 0.5) / np.where(own == other, 1.0, own - other), 0.01, 0.99)
    return np.stack([row + share * ~horizontal, column + share * horizontal], axis=1)


def _points(at: np.ndarray, depth: np.ndarray, size: int, camera: Camera) -> np.ndarray:
    """Points on the rays through (row, column) node positions."""
    ndc = (at + 0.5) * 2.0 / size - 1.0
    local = np.stack(
        [ndc[:, 1] / camera.focal, -ndc[:, 0] / camera.focal, -np.ones(len(at))], axis=1
    )
    return np.asarray(camera.center + depth[:, None] * (local @ camera.axes.T))
