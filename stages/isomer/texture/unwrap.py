"""A mesh cut open along the seams of its charts, every face with texels of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.geometry.raster import Fragments
from stages.geometry.raster.cpu import CpuRasterizer
from stages.isomer.texture.charts import Faces, Frames, choose_directions, describe, frames, pieces
from stages.isomer.texture.packing import DoesNotFitError, Places, pack

ROUNDS = 16
"""Of cutting off what overlaps. A few do; each lays bare what lay below the last."""


class CannotUnwrapError(ValueError):
    """The mesh has no layout in which every face has texels of its own."""


@dataclass(frozen=True)
class Unwrapped:
    """vertices that lie on a seam are there once a chart.

    origin     (U,) int64, the vertex of the mesh that each vertex was
    faces      (F, 3) int32 into those, in the mesh's order
    uv         (U, 2) float32 in [0, 1], origin at the top left, v down, as in glTF
    across     (U, 3) float64 unit, the direction in frame W in which u grows in the chart's plane
    toward     (U, 3) float64 unit, the direction that the chart is seen from
    fragments  which surface point each texel shows; size x size
    charts     how many there are
    scale      texels per unit
    """

    origin: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    across: np.ndarray
    toward: np.ndarray
    fragments: Fragments
    charts: int
    scale: float


def unwrap(
    vertices: np.ndarray, faces: np.ndarray, size: int, rasterizer: CpuRasterizer
) -> Unwrapped:
    """Lay (F, 3) faces over vertices (V, 3) out in a texture of size x size texels.

    rasterizer: ours on the CPU, whose faces share no texel where they only touch.
    Raises CannotUnwrapError.
    """
    center = (vertices.min(axis=0) + vertices.max(axis=0)).astype(np.float64) / 2.0
    radius = float(np.linalg.norm(vertices - center, axis=1).max())
    if not radius > 0.0:
        raise CannotUnwrapError("the mesh is a single point")
    mesh, around = describe(vertices, faces), frames(radius)
    direction = choose_directions(mesh, around, center, rasterizer.threads)
    layer = np.zeros(len(faces), np.int64)
    for _ in range(ROUNDS):
        chart, _ = pieces(layer * len(around.cameras) + direction, mesh.pairs)
        try:
            places = pack(_flat(mesh, around, direction), chart, size)
        except DoesNotFitError as error:
            raise CannotUnwrapError(str(error)) from error
        cut = _cut_open(mesh, around, direction, chart, places, size)
        fragments = rasterizer.rasterize(_clip(cut[2]), cut[1], (size, size))
        below = _overlapped(mesh, around, direction, cut, fragments, rasterizer)
        if not len(below):
            return Unwrapped(*cut, fragments, int(chart.max()) + 1, places.scale)
        layer[below] += 1
    raise CannotUnwrapError(f"{len(below)} faces still overlap after {ROUNDS} rounds of cutting")


Cut = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""The first five fields of `Unwrapped`."""


def _flat(mesh: Faces, around: Frames, direction: np.ndarray) -> np.ndarray:
    """(F, 3, 2) the corners in the plane of each face's direction, x right and y up."""
    corners = mesh.vertices[mesh.corners]
    return np.einsum("fkc,fca->fka", corners, around.axes[direction][:, :, :2])


def _cut_open(
    mesh: Faces,
    around: Frames,
    direction: np.ndarray,
    chart: np.ndarray,
    places: Places,
    size: int,
) -> Cut:
    count = len(mesh.vertices)
    key = (chart.astype(np.int64)[:, None] * count + mesh.corners).reshape(-1)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    uv = np.clip(places.corners.reshape(-1, 2)[first] / size, 0.0, 1.0).astype(np.float32)
    axes = around.axes[direction][first // 3]
    faces = inverse.reshape(-1, 3).astype(np.int32)
    upright = places.turned[chart][first // 3][:, None]
    across = np.where(upright, axes[:, :, 1], axes[:, :, 0])
    return mesh.corners.reshape(-1)[first].astype(np.int64), faces, uv, across, axes[:, :, 2]


def _clip(uv: np.ndarray) -> np.ndarray:
    x, y = 2.0 * uv[:, 0].astype(np.float64) - 1.0, 1.0 - 2.0 * uv[:, 1].astype(np.float64)
    return np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=1)


def _overlapped(
    mesh: Faces,
    around: Frames,
    direction: np.ndarray,
    cut: Cut,
    fragments: Fragments,
    rasterizer: CpuRasterizer,
) -> np.ndarray:
    """Faces that share a texel with another one that lies nearer to the chart's camera.

    At equal depth the rasteriser keeps the face of the lower number. Drawn in reverse, a texel of
    two faces shows the other one.
    """
    size = fragments.pix_to_face.shape
    reverse = rasterizer.rasterize(_clip(cut[2]), cut[1][::-1], size).pix_to_face
    first = fragments.pix_to_face
    last = np.where(reverse >= 0, len(cut[1]) - 1 - reverse, -1)
    shared = first != last
    one, two = first[shared], last[shared]
    height = np.einsum(
        "fc,fc->f", mesh.vertices[mesh.corners].mean(axis=1), around.axes[direction][:, :, 2]
    )
    return np.unique(np.where(height[one] < height[two], one, two))
