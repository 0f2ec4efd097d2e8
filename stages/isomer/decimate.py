"""Fewer faces, the same surface: edge collapse by quadric error, many edges a round.

After Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH 1997).
Instead of one heap, each round collapses the cheapest edges that lie apart from each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.geometry.numpy_edges import Edges, compact, find_edges

CHEAPEST = 0.5
"""Share of the edges that a round chooses from. More needs fewer rounds and strays further from
the order of costs."""
MAX_ROUNDS = 200
TURNS = (0.2, -1.0)
"""Smallest cosine between a face's normal before and after a collapse, and that which counts when
nothing else is left: a crumpled surface folds at every collapse."""
BORDER = 10.0
"""Weight of the planes that keep a border in place."""
PULL = 1e-3
"""Pull to the middle of the edge, in traces of its quadric: on a plane any place is best."""


@dataclass(frozen=True)
class Quadrics:
    """v' A v + 2 b' v + c, the weighted squared distance to planes, one row a vertex.

    a (V, 3, 3), b (V, 3), c (V,) float64
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def of_edges(self, ends: np.ndarray) -> Quadrics:
        """Sums over the two ends of (E, 2) edges."""
        low, high = ends.T
        return Quadrics(
            self.a[low] + self.a[high], self.b[low] + self.b[high], self.c[low] + self.c[high]
        )

    def cost(self, points: np.ndarray) -> np.ndarray:
        """(V,) at one point (V, 3) a row."""
        quadratic = np.einsum("ni,nij,nj->n", points, self.a, points)
        return np.asarray(quadratic + 2.0 * np.einsum("ni,ni->n", self.b, points) + self.c)

    def best_points(self, near: np.ndarray) -> np.ndarray:
        """(V, 3) where the cost is least, drawn to `near` (V, 3) where that leaves a choice."""
        pull = PULL * np.trace(self.a, axis1=1, axis2=2) + 1e-30
        left = self.a + pull[:, None, None] * np.eye(3)
        return np.linalg.solve(left, (pull[:, None] * near - self.b)[..., None])[..., 0]


def decimate(
    vertices: np.ndarray, faces: np.ndarray, target_faces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges until `target_faces` are left; a smaller mesh is returned as it is.

    vertices (V, 3) float64, faces (F, 3). More faces stay only where every further
    collapse would change the surface's topology.
    """
    points = np.array(vertices, np.float64)
    triangles = faces.astype(np.int64)
    if len(triangles) <= target_faces:
        return points, faces
    edges = find_edges(triangles, len(points))
    quadrics = _quadrics(points, triangles, edges)
    refused = np.zeros(0, np.int64)
    turn = TURNS[0]
    for _ in range(MAX_ROUNDS):
        wanted = (len(triangles) - target_faces + 1) // 2
        if wanted <= 0:
            break
        chosen = _choose(points, quadrics, edges, refused)
        if not len(chosen):
            if not len(refused) or turn == TURNS[1]:
                break
            turn, refused = TURNS[1], np.zeros(0, np.int64)
            continue
        chosen = chosen[:wanted]
        ends = edges.ends[chosen]
        merged = quadrics.of_edges(ends)
        place = merged.best_points(points[ends].mean(axis=1))
        good = _keeps_its_shape(points, triangles, ends, place, turn)
        good &= _keeps_topology(edges, chosen, len(points))
        refused = np.union1d(refused, _keys(ends[~good], len(points)))
        keep, gone = ends[good].T
        points[keep] = place[good]
        for table, rows in zip(
            (quadrics.a, quadrics.b, quadrics.c), (merged.a, merged.b, merged.c), strict=True
        ):
            table[keep] = rows[good]
        target = np.arange(len(points))
        target[gone] = keep
        triangles = target[triangles]
        a, b, c = triangles.T
        triangles = triangles[(a != b) & (b != c) & (c != a)]
        edges = find_edges(triangles, len(points))
    return compact(points, triangles)


def _quadrics(points: np.ndarray, triangles: np.ndarray, edges: Edges) -> Quadrics:
    """Of each vertex: the planes of its faces by area, and planes that hold borders."""
    corners = points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    unit = normal / np.maximum(area, 1e-30)[:, None]
    face, side = np.nonzero(edges.on_border[edges.of_side])
    start, end = corners[face, side], corners[face, (side + 1) % 3]
    upright = np.cross(end - start, unit[face])
    length = np.linalg.norm(upright, axis=1)
    upright /= np.maximum(length, 1e-30)[:, None]
    held = np.stack([triangles[face, side], triangles[face, (side + 1) % 3]], axis=1)

    planes = np.concatenate([unit, upright])
    offset = -np.concatenate(
        [(unit * corners[:, 0]).sum(axis=1), (upright * start).sum(axis=1)]
    )  # fmt: skip
    weight = np.concatenate([area / 2.0, BORDER * length**2])
    rows = np.concatenate([planes, offset[:, None]], axis=1)
    products = (weight[:, None, None] * rows[:, :, None] * rows[:, None, :]).reshape(-1, 16)
    total = np.zeros((len(points), 16))
    for column in range(16):
        ids = np.concatenate([triangles.ravel(), held.ravel()])
        values = np.concatenate(
            [
                np.repeat(products[: len(triangles), column], 3),
                np.repeat(products[len(triangles) :, column], 2),
            ]
        )
        total[:, column] = np.bincount(ids, values, minlength=len(points))
    square = total.reshape(-1, 4, 4)
    return Quadrics(square[:, :3, :3].copy(), square[:, :3, 3].copy(), square[:, 3, 3].copy())


def _choose(
    points: np.ndarray, quadrics: Quadrics, edges: Edges, refused: np.ndarray
) -> np.ndarray:
    """Edges to collapse, cheapest first; no face touches two of them."""
    ends, count = edges.ends, len(points)
    if not len(ends):
        return np.zeros(0, np.int64)
    border = np.zeros(count, bool)
    border[ends[edges.on_border]] = True
    # An inner edge between two borders would pinch the surface; three faces at an edge stay.
    fit = ~(border[ends[:, 0]] & border[ends[:, 1]]) | (edges.face_count == 1)
    fit &= edges.face_count <= 2
    fit &= ~np.isin(_keys(ends, count), refused)
    fitting = np.flatnonzero(fit)
    start, end = points[ends[fitting, 0]], points[ends[fitting, 1]]
    cost = quadrics.of_edges(ends[fitting]).cost((start + end) / 2.0)
    # Equal costs, as on a plane, fall to the shortest edge.
    length = np.linalg.norm(end - start, axis=1)
    cost = np.maximum(cost, 0.0) + 1e-12 * length
    ranked = fitting[np.argsort(cost, kind="stable")]
    ranked = ranked[: max(16, int(CHEAPEST * len(ranked)))]
    rank = np.full(len(ends), len(ends), np.int64)
    rank[ranked] = np.arange(len(ranked))
    reached = rank
    for _ in range(2):
        at_vertex = np.full(count, len(ends), np.int64)
        np.minimum.at(at_vertex, ends[:, 0], reached)
        np.minimum.at(at_vertex, ends[:, 1], reached)
        reached = np.minimum(at_vertex[ends[:, 0]], at_vertex[ends[:, 1]])
    return ranked[reached[ranked] == rank[ranked]]


def _keeps_topology(edges: Edges, chosen: np.ndarray, count: int) -> np.ndarray:
    """(N,) bool: the ends of a chosen edge have no neighbours in common but the corners opposite
    to it (link condition), and none of those stands on three faces, which would lie on each other.
    """
    faces = edges.face_count[chosen]
    valence = np.bincount(edges.ends.ravel(), minlength=count)
    low = (valence[edges.across[chosen]] <= 3).any(axis=1)
    return np.asarray((_common_neighbours(edges, chosen, count) == faces) & ~((faces == 2) & low))


def _common_neighbours(edges: Edges, chosen: np.ndarray, count: int) -> np.ndarray:
    """(N,) how many vertices are joined to both ends of each chosen edge."""
    ends = edges.ends
    owner = np.full(count, -1, np.int64)
    owner[ends[chosen]] = np.arange(len(chosen))[:, None]
    pairs = []
    for near, far in ((0, 1), (1, 0)):
        outer = (owner[ends[:, near]] >= 0) & (owner[ends[:, near]] != owner[ends[:, far]])
        pairs.append(owner[ends[outer, near]] * count + ends[outer, far])
    keys, times = np.unique(np.concatenate(pairs), return_counts=True)
    return np.bincount(keys[times == 2] // count, minlength=len(chosen))


def _keeps_its_shape(
    points: np.ndarray, triangles: np.ndarray, ends: np.ndarray, place: np.ndarray, turn: float
) -> np.ndarray:
    """(N,) bool: no face around a collapse of `ends` (N, 2) to `place` (N, 3) turns by more."""
    owner = np.full(len(points), -1, np.int64)
    owner[ends] = np.arange(len(ends))[:, None]
    moved = points.copy()
    moved[ends] = place[:, None]
    touched = owner[triangles]
    number = touched.max(axis=1)
    one = (number >= 0) & ((touched >= 0).sum(axis=1) == 1)

    def normals(at: np.ndarray) -> np.ndarray:
        corners = at[triangles[one]]
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    before, after = normals(points), normals(moved)
    length = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    # A face that had no area may take any.
    turned = ((before * after).sum(axis=1) < turn * length) | (np.linalg.norm(after, axis=1) == 0.0)
    good = np.ones(len(ends), bool)
    good[number[one][turned]] = False
    return good


def _keys(ends: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(ends[:, 0] * count + ends[:, 1])
