"""The mesh in its colours as they are, without light: what a bundle's cameras see of it.

The colours come from pictures, so they have their light in them already. Drawn with numpy alone,
for the parent has no rasteriser; a sketch's 100,000 faces from five sides take 0.6 s on one core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contract.npy import map_npy

if TYPE_CHECKING:
    import numpy as np

RADIUS, ELEVATION, FIELD_OF_VIEW = 4.15, 5.0, 30.0
"""Of the bundle's cameras: distance to the origin, height over the horizon and vertical field of
view in degrees (docs/reference.md, "Frames and cameras"; as in stages/geometry/camera_rig.py)."""
AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
_SAMPLES = 2
"""Samples a side of a pixel."""
_MOST_FACES = 2_000_000
_MOST_TESTS = 60_000_000
"""Pixels of all faces' boxes in one view. A sketch has 0.4 million."""
_AT_ONCE = 1_000_000
_NEAR = 0.1


@dataclass(frozen=True)
class ColoredMesh:
    """vertices (V, 3) float in frame W, faces (F, 3) int, colors (V, 3) uint8 sRGB."""

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray


def read_mesh(vertices: Path, faces: Path, colors: Path) -> ColoredMesh:
    """A mesh artifact's files. Raises OSError, or ValueError for what cannot be drawn."""
    import numpy as np

    mesh = ColoredMesh(map_npy(vertices), map_npy(faces), map_npy(colors))
    count = len(mesh.vertices)
    if not 0 < len(mesh.faces) <= _MOST_FACES or count > 3 * _MOST_FACES:
        raise ValueError(f"a mesh of {len(mesh.faces)} faces is not drawn")
    wanted = [("f", (count, 3)), ("iu", (len(mesh.faces), 3)), ("u", (count, 3))]
    for array, (kinds, shape) in zip((mesh.vertices, mesh.faces, mesh.colors), wanted, strict=True):
        if array.dtype.kind not in kinds or array.shape != shape:
            raise ValueError("no mesh with a colour at each vertex")
    if int(mesh.faces.min()) < 0 or int(mesh.faces.max()) >= count:
        raise ValueError("a face names a vertex that is not there")
    if not bool(np.isfinite(mesh.vertices).all()):
        raise ValueError("a vertex is nowhere")
    return mesh


def view(
    mesh: ColoredMesh,
    azimuth: float,
    size: int,
    elevation: float = ELEVATION,
    radius: float = RADIUS,
) -> np.ndarray:
    """(size, size, 3) uint8 on white: the mesh as a bundle's camera sees it from `azimuth` degrees.

    Raises ValueError for a mesh that would take too long.
    """
    import numpy as np

    side = size * _SAMPLES
    points, nearness = _project(mesh.vertices, azimuth, elevation, radius, side)
    nearest = np.zeros(side * side, np.float32)
    image = np.full((side * side, 3), 255.0, np.float32)
    for pixel, near, corners, weights in _covered(mesh.faces, points, nearness, side):
        # Of equal indices the last one counts, so the nearest come last.
        order = np.argsort(near, kind="stable")
        order = order[near[order] > nearest[pixel[order]]]
        nearest[pixel[order]] = near[order]
        order = order[near[order] == nearest[pixel[order]]]
        colors = mesh.colors[corners[order]].astype(np.float32)
        image[pixel[order]] = np.einsum("nk,nkc->nc", weights[order], colors)
    tiles = image.reshape(size, _SAMPLES, size, _SAMPLES, 3).mean(axis=(1, 3))
    return np.asarray(np.clip(tiles + 0.5, 0.0, 255.0).astype(np.uint8))


def _project(
    vertices: np.ndarray, azimuth: float, elevation: float, radius: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """(V, 2) column and row in pixels, and (V,) 1 / depth; 0 where that is too near."""
    import numpy as np

    a, e = math.radians(azimuth), math.radians(elevation)
    axes = np.array(
        [
            (math.cos(a), 0.0, -math.sin(a)),
            (-math.sin(e) * math.sin(a), math.cos(e), -math.sin(e) * math.cos(a)),
            (math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)),
        ]
    )
    right, up, back = (np.asarray(vertices, np.float64) @ axes.T).T
    depth = radius - back
    seen = depth > _NEAR
    nearness = np.where(seen, 1.0 / np.where(seen, depth, 1.0), 0.0)
    focal = 1.0 / math.tan(math.radians(FIELD_OF_VIEW) / 2.0)
    column = (1.0 + focal * right * nearness) * side / 2.0
    row = (1.0 - focal * up * nearness) * side / 2.0
    return np.stack([column, row], axis=1), nearness


def _covered(
    faces: np.ndarray, points: np.ndarray, nearness: np.ndarray, side: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For pixels whose centres lie in a face: (N,) pixel, (N,) 1 / depth there, (N, 3) the face's
    vertices, and (N, 3) their weights for what is linear in space."""
    import numpy as np

    a, b, c = (points[faces[:, corner]] for corner in range(3))
    low = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5).clip(0).astype(np.int64)
    high = np.floor(np.maximum(np.maximum(a, b), c) - 0.5).clip(max=side - 1).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    tests = extent[:, 0] * extent[:, 1]
    if int(tests.sum()) > _MOST_TESTS:
        raise ValueError("a mesh of so many large faces is not drawn")
    b, c = b - a, c - a
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    [shown] = np.nonzero((tests > 0) & (area != 0.0) & (nearness[faces].min(axis=1) > 0.0))
    scale = np.where(area == 0.0, 1.0, area)[:, None]
    # From the first corner to the box's first pixel, and to the other corners by the area.
    table = np.hstack([low + 0.5 - a, b / scale, c / scale])
    for part in np.split(shown, _cuts(tests[shown])):
        face = np.repeat(part, tests[part])
        first = np.repeat(np.cumsum(tests[part]) - tests[part], tests[part])
        row, column = np.divmod(np.arange(len(face)) - first, extent[face, 0])
        x, y, bx, by, cx, cy = table[face].T
        x, y = x + column, y + row
        second, third = x * cy - y * cx, bx * y - by * x
        [inside] = np.nonzero((second >= 0.0) & (third >= 0.0) & (second + third <= 1.0))
        face, second, third = face[inside], second[inside], third[inside]
        mine = faces[face]
        weights = np.stack([1.0 - second - third, second, third], axis=1) * nearness[mine]
        near = weights @ np.ones(3)
        pixel = (row[inside] + low[face, 1]) * side + column[inside] + low[face, 0]
        yield pixel, near.astype(np.float32), mine, weights / near[:, None]


def _cuts(tests: np.ndarray) -> list[int]:
    """Where to cut a list of faces so that each part has about `_AT_ONCE` pixels to test."""
    import numpy as np

    total = np.cumsum(tests)
    if not len(total):
        return []
    steps = np.arange(_AT_ONCE, int(total[-1]), _AT_ONCE)
    return sorted(set(np.searchsorted(total, steps).tolist()) - {0})
