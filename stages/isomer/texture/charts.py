"""Charts: pieces of the surface that a parallel projection lays flat without folds.

Every face belongs to a direction that sees it well. Faces of one direction that hang together are a
chart, and its texture coordinates are its picture from there, so that texels lie evenly on the
surface and, for the bundle's own four directions, as in the bundle's pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.geometry.camera_rig import BUNDLE_AZIMUTHS, BUNDLE_ELEVATION
from stages.geometry.cameras import Camera
from stages.geometry.numpy_edges import find_edges
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.threads import in_threads
from stages.isomer.visibility import by_depth, window_depth

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FAR_AWAY = 100.0
"""Distance of the cameras that look for what hides what, in radii of the object: nearly parallel
rays."""
RASTER = 512
"""Side of their pictures."""
MARGIN = 1
"""Pixels that a face keeps away from what hides it: the gap in the chart where an occluder ends."""
WELL = 0.35
"""Cosine from which a direction sees a face well: texels are stretched threefold there."""
BARELY = 0.1
"""Smallest cosine at which a small piece may join a neighbour's direction."""
MAIN_BONUS = 0.4
"""What the bundle's directions, up and down are worth more than the slanted ones, as cosine: fewer
charts."""
AGREEMENT = 0.35
"""What a face gains where all its neighbours have the same direction, as cosine."""
ROUNDS = 12
LEAST_FACES = 12
"""Charts of fewer faces than this are given to their neighbours where those see them."""
MERGES = 3


@dataclass(frozen=True)
class Frames:
    """Directions to look from.

    axes  (D, 3, 3): columns right, up, back of each in frame W
    main  (D,) bool: the bundle's four, up and down
    """

    cameras: tuple[Camera, ...]
    axes: np.ndarray
    main: np.ndarray


@dataclass(frozen=True)
class Faces:
    """What the search for charts knows of a mesh.

    normals  (F, 3) float64 unit, 0 where a face has no area
    pairs    (P, 2) int64, faces beside each other at an edge
    """

    vertices: np.ndarray
    corners: np.ndarray
    normals: np.ndarray
    pairs: np.ndarray


def frames(radius: float) -> Frames:
    """Eighteen directions around an object of `radius`: the bundle's, up, down and between."""
    main = [(azimuth, BUNDLE_ELEVATION) for azimuth in BUNDLE_AZIMUTHS] + [
        (0.0, 90.0),
        (0.0, -90.0),
    ]
    slanted = [(azimuth + 45.0, e) for e in (0.0, 40.0, -40.0) for azimuth in BUNDLE_AZIMUTHS]
    distance = FAR_AWAY * radius
    fovy = 2.0 * float(np.rad2deg(np.arctan(1.05 / FAR_AWAY)))
    cameras = tuple(Camera(a, e, distance, fovy) for a, e in main + slanted)
    axes = np.stack([camera.axes for camera in cameras])
    return Frames(cameras, axes, np.arange(len(cameras)) < len(main))


def describe(vertices: np.ndarray, faces: np.ndarray) -> Faces:
    """vertices (V, 3) float, faces (F, 3) int."""
    points = vertices.astype(np.float64)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-20, normals / np.maximum(length, 1e-20), 0.0)
    side = find_edges(faces, len(vertices)).of_side.reshape(-1)
    order = np.argsort(side, kind="stable")
    beside = side[order[1:]] == side[order[:-1]]
    pairs = np.stack([order[:-1][beside], order[1:][beside]], axis=1) // 3
    return Faces(points, faces, normals, pairs)


def choose_directions(mesh: Faces, around: Frames, center: np.ndarray, threads: int) -> np.ndarray:
    """(F,) the direction of each face: one that sees it well, if possible its neighbours' too.

    center (3,), of the object; the same result for any number of threads.
    """
    cosine = mesh.normals @ around.axes[:, :, 2].T
    seen = _seen(mesh, around, center, threads)
    worth = cosine + np.where(around.main, MAIN_BONUS, 0.0)
    worth = np.where(seen, worth, worth - 1.0)
    worth[cosine < WELL] -= 4.0  # a face without area has cosine 0 everywhere, and takes any
    beside = _beside(mesh)
    chosen = _agree(worth, worth.argmax(axis=1), beside)
    for _ in range(MERGES):
        piece, size = pieces(chosen, mesh.pairs)
        small = size[piece] < LEAST_FACES
        if not small.any():
            break
        chosen = _given_away(chosen, small, cosine, beside)
    return chosen


def pieces(key: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) numbers of the pieces that faces of equal `key` (F,) form along `pairs`, and their
    sizes in faces."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, two = pairs[key[pairs[:, 0]] == key[pairs[:, 1]]].T
    links = coo_array((np.ones(len(one), bool), (one, two)), shape=(len(key), len(key)))
    _, piece = connected_components(links, directed=False)
    return piece, np.bincount(piece)


def _seen(mesh: Faces, around: Frames, center: np.ndarray, threads: int) -> np.ndarray:
    """(F, D) bool: whether a direction sees the middle of a face."""
    vertices = mesh.vertices - center
    middles = vertices[mesh.corners].mean(axis=1)
    rasterizer = CpuRasterizer(1)

    def column(camera: Camera) -> np.ndarray:
        clip = camera.to_clip(vertices)
        depth = rasterizer.nearest(clip, mesh.corners, RASTER)[1]
        nearest = window_depth(depth, MARGIN)
        return by_depth(middles, mesh.normals, camera, nearest, BARELY, MARGIN, "axis")

    return np.stack(in_threads(column, around.cameras, threads), axis=1)


def _beside(mesh: Faces) -> csr_array:
    """(F, F) float32 with a 1 for every two faces beside each other."""
    from scipy.sparse import coo_array

    count = len(mesh.corners)
    rows, columns = np.concatenate([mesh.pairs, mesh.pairs[:, ::-1]]).T
    ones = np.ones(len(rows), np.float32)
    return coo_array((ones, (rows, columns)), shape=(count, count)).tocsr()


def _agree(worth: np.ndarray, chosen: np.ndarray, beside: csr_array) -> np.ndarray:
    """Let faces take the direction that is worth most, counting that of their neighbours.

    worth (F, D); chosen (F,). Iterated conditional modes (Besag, "On the statistical analysis of
    dirty pictures", 1986), every second face a round, as all at once would swing to and fro.
    """
    turn = np.arange(len(chosen)) % 2
    chosen = chosen.copy()
    for step in range(ROUNDS):
        now = np.zeros(worth.shape, np.float32)
        now[np.arange(len(chosen)), chosen] = 1.0
        best = (worth + AGREEMENT / 3.0 * (beside @ now)).argmax(axis=1)
        moving = (turn == step % 2) & (best != chosen)
        chosen[moving] = best[moving]
    return chosen


def _given_away(
    chosen: np.ndarray, small: np.ndarray, cosine: np.ndarray, beside: csr_array
) -> np.ndarray:
    """Let `small` faces (F,) bool take the direction of neighbours that are not, or not any more,
    where that sees them at all; cosine (F, D). Returns the like of chosen (F,)."""
    chosen, left = chosen.copy(), small.copy()
    for _ in range(LEAST_FACES):
        settled = np.flatnonzero(~left)
        now = np.zeros(cosine.shape, np.float32)
        now[settled, chosen[settled]] = 1.0
        waiting = np.flatnonzero(left)
        support = (beside[waiting] @ now) * (cosine[waiting] > BARELY)
        best = (support + 0.1 * cosine[waiting] * (support > 0.0)).argmax(axis=1)
        takes = support[np.arange(len(waiting)), best] > 0.0
        if not takes.any():
            break
        chosen[waiting[takes]] = best[takes]
        left[waiting[takes]] = False
    return chosen
