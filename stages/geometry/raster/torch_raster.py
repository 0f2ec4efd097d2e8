"""The backend for cards without a working pytorch3d: a z-buffer in plain torch.

Every triangle is laid out over the pixels of its bounding box, chunk by chunk; the pixels whose
centre it covers compete by one integer each, depth above face number, in a single atomic maximum.
Coverage is decided on the CPU backend's grid of subpixels, by its rules (kernels.py), so both give
the same pixels. torch is imported with this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.contract import StageError
from stages.geometry.raster.faults import classify
from stages.geometry.raster.interface import Fragments
from stages.geometry.raster.kernels import SUBPIXELS
from stages.geometry.raster.triangles import Triangles, set_up

CHUNK = 1 << 20
"""Pairs of a triangle and a pixel that are looked at together: about 300 bytes each."""
FALL_BACK = "run this stage on the CPU (rasterizer: cpu)"


class TorchRasterizer:
    """The CPU backend's result from any device of torch, but for ties below 2**-30 of the depth.

    device  "cpu" or "cuda:N"
    """

    name = "torch"

    def __init__(self, device: str) -> None:
        """Raises StageError (gpu_unavailable) if torch sees no such device."""
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise StageError(
                "gpu_unavailable",
                f"{device} was asked for but torch sees no CUDA device",
                FALL_BACK,
            )
        self._device = torch.device(device)

    def rasterize(self, clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
        """See `Rasterizer.rasterize`. Takes up to 300 MB on the device beside the mesh.

        Raises ValueError for shapes that cannot be drawn, StageError (gpu_unavailable, gpu_fault,
        out_of_memory) where the device fails.
        """
        mesh = set_up(clip, faces, size)
        try:
            with torch.no_grad():
                ids, weights, depth = self._draw(mesh, size)
                return Fragments(ids.cpu().numpy(), weights.cpu().numpy(), depth.cpu().numpy())
        except RuntimeError as error:
            raise classify(error, "the torch rasteriser", FALL_BACK) from error

    def _draw(self, mesh: Triangles, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        height, width = size
        clip = torch.from_numpy(mesh.clip).to(self._device)
        faces = torch.from_numpy(mesh.faces).to(self._device, torch.int64)
        setup = _set_up(mesh, clip, faces, width)
        best = torch.full((height * width,), -1, dtype=torch.int64, device=self._device)
        total = int(setup.ends[-1]) if len(setup.ends) else 0
        for start in range(0, total, CHUNK):
            pair = torch.arange(start, min(start + CHUNK, total), device=self._device)
            _compete(best, pair, setup, size)
        ids = torch.where(best >= 0, setup.low_bits - (best & setup.low_bits), -1)
        weights, depth = _resolve(clip, faces, ids, size)
        return (
            ids.to(torch.int32).reshape(size),
            weights.reshape(height, width, 3),
            depth.reshape(size),
        )


@dataclass(frozen=True)
class _Setup:
    """Per triangle that may cover a pixel, T of them, on the device.

    owner    (T,) int64, its face
    left, top, columns  (T,) int64, its bounding box: first column and row, width
    starts, ends  (T,) int64, its pairs with the pixels of its box, among those of all triangles
    edges    (T, 3, 3) int64: a x + b y + c >= 0 inside of each side, x and y in subpixels
    plane    (T, 3) float64: 1 / depth = n . (X, Y, 1) in NDC
    nearest  (T, 2) float64, limits of 1 / depth: those of its face's corners
    low_bits  the bits of a key that hold the face: enough of them, all set
    """

    owner: Tensor
    left: Tensor
    top: Tensor
    columns: Tensor
    starts: Tensor
    ends: Tensor
    edges: Tensor
    plane: Tensor
    nearest: Tensor
    low_bits: int


def _set_up(mesh: Triangles, clip: Tensor, faces: Tensor, width: int) -> _Setup:
    device = clip.device
    drawn = np.flatnonzero(mesh.rows[:, 0] <= mesh.rows[:, 1])
    points = torch.from_numpy(mesh.screen[mesh.corners[drawn]]).to(device)
    rows = torch.from_numpy(mesh.rows[drawn]).to(device, torch.int64)
    owner = torch.from_numpy(mesh.owners[drawn]).to(device, torch.int64)
    x, y = points[..., 0], points[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    clockwise = (area < 0)[:, None]
    order = torch.where(clockwise, x.new_tensor([0, 2, 1]), x.new_tensor([0, 1, 2]))
    x, y = x.gather(1, order), y.gather(1, order)
    dx, dy = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    # A centre on a side belongs to the triangle only if the side is a top or a left one.
    top_left = (dy < 0) | ((dy == 0) & (dx > 0))
    edges = torch.stack([-dy, dx, dy * x - dx * y - (~top_left).to(torch.int64)], dim=2)
    half = SUBPIXELS // 2
    left = torch.div(x.amin(1) + half - 1, SUBPIXELS, rounding_mode="floor").clamp(min=0)
    right = torch.div(x.amax(1) - half, SUBPIXELS, rounding_mode="floor").clamp(max=width - 1)
    columns = (right - left + 1).clamp(min=0)
    plane, nearest, flat = _planes(clip, faces[owner])
    pixels = columns * (rows[:, 1] - rows[:, 0] + 1)
    pixels = torch.where((area == 0) | flat, 0, pixels)
    ends = pixels.cumsum(0)
    return _Setup(
        owner,
        left,
        rows[:, 0],
        columns.clamp(min=1),
        ends - pixels,
        ends,
        edges,
        plane,
        nearest,
        (1 << len(mesh.faces).bit_length()) - 1,
    )


def _planes(clip: Tensor, corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Planes and limits of `_Setup`, and (T,) bool: faces seen edge on, which have none."""
    p = clip[corners][..., [0, 1, 3]]
    normal = torch.linalg.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    scale = (normal * p[:, 0]).sum(dim=1)
    flat = scale == 0.0
    plane = normal / torch.where(flat, 1.0, scale)[:, None]
    depth = p[..., 2]
    nearest = torch.stack([1.0 / depth.amax(1), 1.0 / depth.amin(1).clamp(min=1e-9)], dim=1)
    return plane, nearest, flat


def _compete(best: Tensor, pair: Tensor, setup: _Setup, size: tuple[int, int]) -> None:
    """Let pairs (N,) of a triangle and a pixel of its box into the z-buffer `best` (H * W,)."""
    triangle = torch.searchsorted(setup.ends, pair, right=True)
    within = pair - setup.starts[triangle]
    columns = setup.columns[triangle]
    row = setup.top[triangle] + torch.div(within, columns, rounding_mode="floor")
    column = setup.left[triangle] + within % columns
    x, y = (step * SUBPIXELS + SUBPIXELS // 2 for step in (column, row))
    edges = setup.edges[triangle]
    inside = (edges[..., 0] * x[:, None] + edges[..., 1] * y[:, None] + edges[..., 2] >= 0).all(1)
    triangle, row, column = triangle[inside], row[inside], column[inside]
    plane, nearest = setup.plane[triangle], setup.nearest[triangle]
    center_x, center_y = _centers(column, row, size)
    inverse = plane[:, 0] * center_x + plane[:, 1] * center_y + plane[:, 2]
    inverse = torch.minimum(torch.maximum(inverse, nearest[:, 0]), nearest[:, 1])
    # The bits of a positive float64 grow with it; its lowest make room for the face's number.
    key = inverse.view(torch.int64) & ~setup.low_bits | (setup.low_bits - setup.owner[triangle])
    best.scatter_reduce_(0, row * size[1] + column, key, "amax")


def _centers(column: Tensor, row: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """NDC of pixel centres, float64: torch would divide integers as float32."""
    height, width = size
    x = (2 * column + 1).to(torch.float64) / width - 1.0
    return x, 1.0 - (2 * row + 1).to(torch.float64) / height


def _resolve(
    clip: Tensor, faces: Tensor, ids: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Barycentrics (H * W, 3) and depth (H * W,) float32 of the faces that won."""
    width = size[1]
    weights = torch.zeros((len(ids), 3), dtype=torch.float32, device=ids.device)
    depth = torch.full((len(ids),), torch.inf, dtype=torch.float32, device=ids.device)
    pixel = torch.nonzero(ids >= 0)[:, 0]
    p = clip[faces[ids[pixel]]]
    w = p[..., 3]
    row = torch.div(pixel, width, rounding_mode="floor")
    center_x, center_y = _centers(pixel % width, row, size)
    x, y = p[..., 0] - center_x[:, None] * w, p[..., 1] - center_y[:, None] * w
    parts = x.roll(-1, 1) * y.roll(-2, 1) - x.roll(-2, 1) * y.roll(-1, 1)
    parts = torch.where(parts.sum(dim=1, keepdim=True) < 0.0, -parts, parts).clamp(min=0.0)
    total = parts.sum(dim=1, keepdim=True)
    parts = torch.where(total > 0.0, parts / torch.where(total > 0.0, total, 1.0), 1.0 / 3.0)
    weights[pixel] = parts.to(torch.float32)
    depth[pixel] = (parts * w).sum(dim=1).to(torch.float32)
    return weights, depth
