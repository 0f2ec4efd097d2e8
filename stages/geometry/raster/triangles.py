"""From clip coordinates to triangles on a grid of subpixels: what coverage is decided on.

Shared by our two backends, which therefore cover the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.geometry.jit import plain_array
from stages.geometry.raster import kernels
from stages.geometry.raster.interface import NEAR_DEPTH

MAX_SIZE = 4096


@dataclass(frozen=True)
class Triangles:
    """What may be seen of a mesh: its faces, and the parts of those that had to be cut.

    clip     (V, 4) float64, the mesh's own
    faces    (F, 3) int32, the mesh's own
    screen   (N, 2) int64 column and row in subpixels, of the mesh's vertices and of cut corners
    corners  (T, 3) int32, rows of `screen`
    owners   (T,) int32, the face that a triangle is (part of)
    rows     (T, 2) int32 first and last row whose pixel centres it may cover; first > last: none
    """

    clip: np.ndarray
    faces: np.ndarray
    screen: np.ndarray
    corners: np.ndarray
    owners: np.ndarray
    rows: np.ndarray


def set_up(clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Triangles:
    """Snap a mesh to subpixels and cut it at the near plane; see `Rasterizer.rasterize`.

    Raises ValueError for shapes that cannot be drawn.
    """
    if clip.ndim != 2 or clip.shape[1] != 4 or faces.ndim != 2 or faces.shape[1] != 3:
        got = f"{clip.shape}, {faces.shape}"
        raise ValueError(f"expected clip (V, 4) and faces (F, 3), got {got}")
    check(len(clip), faces, size)
    return laid_out(plain_array(clip, np.float64), plain_array(faces, np.int32), size)


def check(vertices: int, faces: np.ndarray, size: tuple[int, int]) -> None:
    """Raise ValueError for faces (F, 3) that name none of the vertices, or for such a size."""
    height, width = size
    if not (0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE):
        raise ValueError(f"image size {size}: expected 1 to {MAX_SIZE} pixels each way")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= vertices):
        raise ValueError(f"a face names a vertex outside 0..{vertices - 1}")


def laid_out(clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Triangles:
    """`set_up` of arrays that were checked: clip (V, 4) float64, faces (F, 3) int32, plain."""
    height, width = size
    screen = np.zeros((len(clip), 2), np.int64)
    inside = np.zeros(len(clip), np.uint8)
    kernels.snap_vertices(clip, height, width, NEAR_DEPTH, screen, inside)
    rows = np.empty((len(faces), 2), np.int32)
    whole = Triangles(clip, faces, screen, faces, np.arange(len(faces), dtype=np.int32), rows)
    if kernels.row_ranges(screen, faces, inside, height, width, rows):
        return _with_cut_faces(whole, inside, size)
    return whole


def _with_cut_faces(whole: Triangles, inside: np.ndarray, size: tuple[int, int]) -> Triangles:
    """Add what is left of faces that reach behind the near plane or far outside the image."""
    height, width = size
    clip, faces = whole.clip, whole.faces
    state = inside[faces]
    to_cut = np.flatnonzero((state != 1).any(axis=1) & (state != 2).all(axis=1))
    # Cut at half the guard band, so that a cut corner lies inside it whatever its rounding.
    x_guard = 1.0 + kernels.GUARD / width
    y_guard = 1.0 + kernels.GUARD / height
    polygon = np.empty((9, 4))
    corners: list[np.ndarray] = []
    fans: list[np.ndarray] = []
    fan_owners: list[int] = []
    start = len(clip)
    for face in to_cut.tolist():
        count = kernels.cut_face(clip[faces[face]], NEAR_DEPTH, x_guard, y_guard, polygon)
        if count:
            corners.append(polygon[:count].copy())
            steps = np.arange(1, count - 1)
            fans.append(start + np.stack([np.zeros_like(steps), steps, steps + 1], axis=1))
            fan_owners += [face] * (count - 2)
            start += count
    if not corners:
        return whole
    cut = plain_array(np.concatenate(corners), np.float64)
    cut_screen = np.zeros((len(cut), 2), np.int64)
    cut_inside = np.zeros(len(cut), np.uint8)
    kernels.snap_vertices(cut, height, width, NEAR_DEPTH * 0.5, cut_screen, cut_inside)
    screen = np.concatenate([whole.screen, cut_screen])
    fan = plain_array(np.concatenate(fans), np.int32)
    fan_rows = np.empty((len(fan), 2), np.int32)
    cut_inside = np.concatenate([inside, cut_inside])
    kernels.row_ranges(screen, fan, cut_inside, height, width, fan_rows)
    return Triangles(
        clip,
        faces,
        screen,
        np.concatenate([whole.corners, fan]),
        np.concatenate([whole.owners, np.array(fan_owners, np.int32)]),
        np.concatenate([whole.rows, fan_rows]),
    )
