"""Mesh cleaning: Laplacian smoothing, repair, then adaptive Loop subdivision.

The same steps as the reference's MeshLab filters, in closed form (reference ISOMER, mesh cleaning),
with a limit on the number of faces that the reference lacks.
"""

from __future__ import annotations

import numpy as np

from stages.geometry.numpy_edges import Edges, adjacency, compact, find_edges
from stages.isomer.decimate import decimate
from stages.isomer.repair import Repair, repair


def laplacian_smooth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """One step of MeshLab's uniform Laplacian smoothing.

    Inside, P' = (P + 2 sum of neighbours) / (2 valence + 1): every face adds its edges, so an
    inner edge counts twice. On a border only border neighbours count, with weight one, and P
    with weight two.

    vertices (V, 3) float64, faces (F, 3); returns (V, 3) float64.
    """
    edges = find_edges(faces, len(vertices))
    border = edges.ends[edges.on_border]
    on_border = np.zeros(len(vertices), bool)
    on_border[border] = True
    inner = adjacency(edges.ends, len(vertices))
    outer = adjacency(border, len(vertices))
    valence = inner.sum(axis=1)[:, None]
    border_valence = outer.sum(axis=1)[:, None]
    smooth = (vertices + 2.0 * (inner @ vertices)) / (2.0 * valence + 1.0)
    smooth_border = (2.0 * vertices + outer @ vertices) / (2.0 + border_valence)
    return np.where(on_border[:, None], smooth_border, smooth)


def loop_subdivide(
    vertices: np.ndarray,
    faces: np.ndarray,
    split: np.ndarray,
    edges: Edges,
    keep_shape: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """One round of Loop subdivision (Loop 1987) that splits only the edges marked in `split`.

    vertices (V, 3) float64; faces (F, 3); split (E,) bool over `edges` of the same faces.
    Old vertices keep their numbers and all of them move by Loop's mask; a new one sits at
    3/8 (a + b) + 1/8 (c + d), on a border at the middle of its edge. With `keep_shape` nothing
    moves and every new vertex sits at the middle.
    """
    old_count = len(vertices)
    ends = edges.ends[split]
    new = vertices[ends].mean(axis=1)
    old = vertices
    if not keep_shape:
        inside = ~edges.on_border[split]
        wings = vertices[edges.across[split][inside]]
        new[inside] = 0.75 * new[inside] + wings.sum(axis=1) / 8.0
        old = _loop_mask(vertices, edges)
    moved = np.concatenate([old, new])
    midpoint = np.full(len(edges.ends), -1, np.int64)
    midpoint[split] = old_count + np.arange(len(ends))
    # Diagonals are compared before the old vertices move.
    before = np.concatenate([vertices, new])
    return moved, _split_faces(faces, midpoint[edges.of_side], before)


def _loop_mask(vertices: np.ndarray, edges: Edges) -> np.ndarray:
    """Where Loop's scheme moves the old vertices: (1 - k b) P + b sum of k neighbours."""
    count = len(vertices)
    border = edges.ends[edges.on_border]
    on_border = np.zeros(count, bool)
    on_border[border] = True
    neighbours = adjacency(edges.ends, count)
    k = np.maximum(neighbours.sum(axis=1)[:, None], 1.0)
    b = (0.625 - (0.375 + np.cos(2.0 * np.pi / k) / 4.0) ** 2) / k
    inner = (1.0 - k * b) * vertices + b * (neighbours @ vertices)
    along = adjacency(border, count)
    share = np.minimum(along.sum(axis=1)[:, None], 2.0) / 8.0
    mean = along @ vertices / np.maximum(along.sum(axis=1)[:, None], 1.0)
    outer = (1.0 - share) * vertices + share * mean
    return np.where(on_border[:, None], outer, inner)


def _split_faces(faces: np.ndarray, sides: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Replace each face by 1 to 4, according to which sides have a midpoint (-1: none)."""
    corners = faces.astype(np.int64)
    has = sides >= 0
    number = has.sum(axis=1)

    # Turn each face so that a single split side comes first, a single whole side last.
    turn = np.zeros(len(faces), np.int64)
    for k in range(3):
        turn[(number == 1) & has[:, k]] = k
        turn[(number == 2) & ~has[:, k]] = k + 1
    order = (np.arange(3) + turn[:, None]) % 3
    c = np.take_along_axis(corners, order, axis=1)
    s = np.take_along_axis(sides, order, axis=1)

    one, two, three = (np.flatnonzero(number == n) for n in (1, 2, 3))
    parts = [corners[number == 0]]
    # One split side c0 c1.
    c0, c1, c2, m = c[one, 0], c[one, 1], c[one, 2], s[one, 0]
    parts += [np.stack([c0, m, c2], 1), np.stack([m, c1, c2], 1)]
    # Split sides c0 c1 and c1 c2 cut off corner c1; the quad c0 m n c2 takes the short diagonal.
    c0, c1, c2, m, n = c[two, 0], c[two, 1], c[two, 2], s[two, 0], s[two, 1]
    to_c2 = np.linalg.norm(points[m] - points[c2], axis=1)
    to_c0 = np.linalg.norm(points[n] - points[c0], axis=1)
    short = (to_c2 < to_c0)[:, None]
    parts.append(np.stack([m, c1, n], 1))
    parts.append(np.where(short, np.stack([c0, m, c2], 1), np.stack([c0, m, n], 1)))
    parts.append(np.where(short, np.stack([m, n, c2], 1), np.stack([c0, n, c2], 1)))
    # All three.
    c0, c1, c2 = c[three].T
    m, n, o = s[three].T
    parts += [np.stack(t, 1) for t in ((c0, m, o), (m, c1, n), (o, n, c2), (m, n, o))]
    return np.concatenate(parts).astype(np.int32)


def subdivide(
    vertices: np.ndarray,
    faces: np.ndarray,
    rounds: int,
    min_edge: float,
    target_faces: int | None,
    keep_shape: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Loop-subdivide long edges.

    min_edge      edges up to this share of the bounding-box diagonal (measured once) stay whole
    target_faces  split only as many edges, the longest first, as this number of faces allows, and
                  end where it allows none; None for no limit, and vertices move in every round,
                  as MeshLab's do even if no edge is long
    keep_shape    see `loop_subdivide`
    """
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    for _ in range(rounds):
        edges = find_edges(faces, len(vertices))
        ends = vertices[edges.ends]
        length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        split = length > min_edge * diagonal
        if target_faces is not None:
            # A split edge adds one face to each face beside it.
            longest = np.argsort(-length, kind="stable")
            growth = np.cumsum(edges.face_count[longest])
            split[longest[growth > target_faces - len(faces)]] = False
        if not split.any() and (target_faces is not None or keep_shape):
            break
        vertices, faces = loop_subdivide(vertices, faces, split, edges, keep_shape)
    return vertices, faces


def clean(
    vertices: np.ndarray,
    faces: np.ndarray,
    smooth_iterations: int,
    rounds: int,
    min_edge: float,
    target_faces: int | None,
    keep_shape: bool = False,
    non_manifold: Repair = "split",
) -> tuple[np.ndarray, np.ndarray]:
    """The whole of mesh cleaning; see `laplacian_smooth`, `repair`, `decimate` and `subdivide`.

    With `keep_shape` there is no need for a repair: sheets that touch stay where they are.

    Returns vertices (V', 3) float32 and faces (F', 3) int32; both are empty if every face of the
    input is degenerate.
    """
    points, triangles = compact(vertices.astype(np.float64), faces)
    if not len(triangles):
        return points.astype(np.float32), triangles
    for _ in range(smooth_iterations):
        points = laplacian_smooth(points, triangles)
    if not keep_shape:
        points, triangles = compact(*repair(points, triangles, non_manifold))
    if target_faces is not None:
        points, triangles = decimate(points, triangles, target_faces)
    points, triangles = subdivide(points, triangles, rounds, min_edge, target_faces, keep_shape)
    return points.astype(np.float32), triangles
