"""The backend for cards: a z-buffer in plain torch, twice as fast as pytorch3d's.

Every triangle is laid out over the pixels of its bounding box, chunk by chunk; the pixels whose
centre it covers compete by one integer each, depth above face number, in a single atomic maximum.
Coverage is decided on the CPU backend's grid of subpixels, by its rules (kernels.py), so both give
the same pixels. torch is imported with this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from stages.contract import StageError
from stages.geometry.raster.faults import classify
from stages.geometry.raster.interface import NEAR_DEPTH, Fragments
from stages.geometry.raster.kernels import GUARD, SUBPIXELS
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
        # Threads take turns, or each would take its share of the device's memory.
        self._turn = Lock()

    def rasterize(self, clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
        """See `Rasterizer.rasterize`. Takes up to 300 MB on the device beside the mesh.

        Raises ValueError for shapes that cannot be drawn, StageError (gpu_unavailable, gpu_fault,
        out_of_memory) where the device fails.
        """
        mesh = set_up(clip, faces, size)
        try:
            with self._turn, torch.no_grad():
                points = torch.from_numpy(mesh.clip[None][..., [0, 1, 3]]).to(self._device)
                corners = torch.from_numpy(mesh.faces).to(self._device, torch.int64)
                setup = self._of_host(mesh, points, corners, size)
                ids, _ = _shown(_draw(setup, size), setup)
                weights, depth = _resolve(points, corners, ids, size)
                return Fragments(
                    ids.to(torch.int32).cpu().numpy().reshape(size),
                    weights.cpu().numpy().reshape(*size, 3),
                    depth.cpu().numpy().reshape(size),
                )
        except RuntimeError as error:
            raise classify(error, "the torch rasteriser", FALL_BACK) from error

    def draw(self, clip: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor] | None:
        """See `TensorRasterizer.draw`: the faces of `rasterize`, without a way to the host."""
        try:
            with torch.no_grad():
                points, corners = clip.to(self._device), faces.to(self._device)
                setup = _of_device(points, corners, (size, size))
                if setup is None:
                    return None
                ids, depth = _shown(_draw(setup, (size, size)), setup)
                shape = (len(points), size, size)
                return ids.reshape(shape), depth.reshape(shape)
        except RuntimeError as error:
            raise classify(error, "the torch rasteriser", FALL_BACK) from error

    def _of_host(
        self, mesh: Triangles, clip: Tensor, faces: Tensor, size: tuple[int, int]
    ) -> _Setup:
        drawn = np.flatnonzero(mesh.rows[:, 0] <= mesh.rows[:, 1])
        screen = torch.from_numpy(mesh.screen[mesh.corners[drawn]]).to(self._device)
        owner = torch.from_numpy(mesh.owners[drawn]).to(self._device, torch.int64)
        return _set_up(screen, clip, faces, owner, torch.zeros_like(owner), size)


@dataclass(frozen=True)
class _Setup:
    """Per triangle that may cover a pixel, T of them in K images of one mesh, on the device.

    clip     (K, V, 3) float64 x, y, w of the mesh; faces (F, 3) int64
    view, owner  (T,) int64, its image and its face
    left, top, columns  (T,) int64, its bounding box: first column and row, width
    starts, ends  (T,) int64, its pairs with the pixels of its box, among those of all triangles
    edges    (T, 3, 3) int64: a x + b y + c >= 0 inside of each side, x and y in subpixels
    plane    (T, 3) float64: 1 / depth = n . (X, Y, 1) in NDC
    nearest  (T, 2) float64, limits of 1 / depth: those of its face's corners
    low_bits  the bits of a key that hold the face: enough of them, all set
    """

    clip: Tensor
    faces: Tensor
    view: Tensor
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


def _of_device(clip: Tensor, faces: Tensor, size: tuple[int, int]) -> _Setup | None:
    """What `triangles.set_up` does on the host; None where a face would have to be cut.

    clip (K, V, 3) float64 x, y, w; faces (F, 3) int64.
    """
    height, width = size
    x, y, w = clip.unbind(dim=-1)
    column = (x / w + 1.0) * 0.5 * width
    row = (1.0 - y / w) * 0.5 * height
    near = (
        (w >= NEAR_DEPTH)
        & ((column - width / 2).abs() <= GUARD + width / 2)
        & ((row - height / 2).abs() <= GUARD + height / 2)
    )
    if not bool(near.all()):
        return None
    screen = (torch.stack([column, row], dim=-1) * SUBPIXELS).round().to(torch.int64)
    count = len(faces)
    owner = torch.arange(count, device=clip.device).repeat(len(clip))
    view = torch.arange(len(clip), device=clip.device).repeat_interleave(count)
    return _set_up(screen[:, faces].reshape(-1, 3, 2), clip, faces, owner, view, size)


def _set_up(
    points: Tensor,
    clip: Tensor,
    faces: Tensor,
    owner: Tensor,
    view: Tensor,
    size: tuple[int, int],
) -> _Setup:
    """points (T, 3, 2) int64, columns and rows of the triangles' corners in subpixels."""
    height, width = size
    half = SUBPIXELS // 2
    low, high = points.amin(1), points.amax(1)
    first = torch.div(low + half - 1, SUBPIXELS, rounding_mode="floor").clamp(min=0)
    last = torch.div(high - half, SUBPIXELS, rounding_mode="floor")
    last = torch.minimum(last, last.new_tensor([width - 1, height - 1]))
    # Most triangles of a fine mesh lie between pixel centres.
    drawn = torch.nonzero((first <= last).all(dim=1))[:, 0]
    points, owner, view, first, last = (
        each.index_select(0, drawn) for each in (points, owner, view, first, last)
    )
    x, y = points[..., 0], points[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    clockwise = (area < 0)[:, None]
    order = torch.where(clockwise, x.new_tensor([0, 2, 1]), x.new_tensor([0, 1, 2]))
    x, y = x.gather(1, order), y.gather(1, order)
    dx, dy = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    # A centre on a side belongs to the triangle only if the side is a top or a left one.
    top_left = (dy < 0) | ((dy == 0) & (dx > 0))
    edges = torch.stack([-dy, dx, dy * x - dx * y - (~top_left).to(torch.int64)], dim=2)
    plane, nearest, flat = _planes(clip[view[:, None], faces[owner]])
    across = last - first + 1
    pixels = torch.where((area == 0) | flat, 0, across[:, 0] * across[:, 1])
    ends = pixels.cumsum(0)
    return _Setup(
        clip,
        faces,
        view,
        owner,
        first[:, 0],
        first[:, 1],
        across[:, 0],
        ends - pixels,
        ends,
        edges,
        plane,
        nearest,
        (1 << len(faces).bit_length()) - 1,
    )


def _planes(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Planes and limits of `_Setup`, and (T,) bool: faces seen edge on, which have none.

    p (T, 3, 3) float64: x, y and w of the faces' corners.
    """
    normal = torch.linalg.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    scale = (normal * p[:, 0]).sum(dim=1)
    flat = scale == 0.0
    plane = normal / torch.where(flat, 1.0, scale)[:, None]
    depth = p[..., 2]
    nearest = torch.stack([1.0 / depth.amax(1), 1.0 / depth.amin(1).clamp(min=1e-9)], dim=1)
    return plane, nearest, flat


def _draw(setup: _Setup, size: tuple[int, int]) -> Tensor:
    """(K * H * W,) int64, the key that won each pixel, -1 where there is none."""
    device, count = setup.clip.device, len(setup.clip)
    best = torch.full((count * size[0] * size[1],), -1, dtype=torch.int64, device=device)
    total = int(setup.ends[-1]) if len(setup.ends) else 0
    for start in range(0, total, CHUNK):
        _compete(best, torch.arange(start, min(start + CHUNK, total), device=device), setup, size)
    return best


def _shown(best: Tensor, setup: _Setup) -> tuple[Tensor, Tensor]:
    """Faces (K * H * W,) int64, -1 where there is none, and their depth (K * H * W,) float32, +inf
    there, of the keys that won.

    A key's upper bits are those of 1 / depth: of a mesh of 2**17 faces, 35 of the mantissa's 52.
    """
    drawn = best >= 0
    ids = torch.where(drawn, setup.low_bits - (best & setup.low_bits), -1)
    inverse = (best & ~setup.low_bits).view(torch.float64)
    return ids, torch.where(drawn, 1.0 / inverse, torch.inf).to(torch.float32)


def _compete(best: Tensor, pair: Tensor, setup: _Setup, size: tuple[int, int]) -> None:
    """Let pairs (N,) of a triangle and a pixel of its box into the z-buffer `best` (K * H * W,)."""
    triangle = torch.searchsorted(setup.ends, pair, right=True)
    within = pair - setup.starts[triangle]
    columns = setup.columns[triangle]
    row = setup.top[triangle] + torch.div(within, columns, rounding_mode="floor")
    column = setup.left[triangle] + within % columns
    x, y = (step * SUBPIXELS + SUBPIXELS // 2 for step in (column, row))
    edges = setup.edges[triangle]
    inside = (edges[..., 0] * x[:, None] + edges[..., 1] * y[:, None] + edges[..., 2] >= 0).all(1)
    # Once: a mask that picks is looked through each time, and waited for.
    kept = torch.nonzero(inside)[:, 0]
    triangle, row, column = (each.index_select(0, kept) for each in (triangle, row, column))
    plane, nearest = setup.plane[triangle], setup.nearest[triangle]
    center_x, center_y = _centers(column, row, size)
    inverse = plane[:, 0] * center_x + plane[:, 1] * center_y + plane[:, 2]
    inverse = torch.minimum(torch.maximum(inverse, nearest[:, 0]), nearest[:, 1])
    # The bits of a positive float64 grow with it; its lowest make room for the face's number.
    key = inverse.view(torch.int64) & ~setup.low_bits | (setup.low_bits - setup.owner[triangle])
    pixel = (setup.view[triangle] * size[0] + row) * size[1] + column
    best.scatter_reduce_(0, pixel, key, "amax")


def _centers(column: Tensor, row: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """NDC of pixel centres, float64: torch would divide integers as float32."""
    height, width = size
    x = (2 * column + 1).to(torch.float64) / width - 1.0
    return x, 1.0 - (2 * row + 1).to(torch.float64) / height


def _resolve(
    clip: Tensor, faces: Tensor, ids: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Barycentrics (K * H * W, 3) and depth (K * H * W,) float32 of the faces that won."""
    height, width = size
    weights = torch.zeros((len(ids), 3), dtype=torch.float32, device=ids.device)
    depth = torch.full((len(ids),), torch.inf, dtype=torch.float32, device=ids.device)
    pixel = torch.nonzero(ids >= 0)[:, 0]
    view = torch.div(pixel, height * width, rounding_mode="floor")
    p = clip[view[:, None], faces[ids[pixel]]]
    w = p[..., 2]
    row = torch.div(pixel, width, rounding_mode="floor") % height
    center_x, center_y = _centers(pixel % width, row, size)
    x, y = p[..., 0] - center_x[:, None] * w, p[..., 1] - center_y[:, None] * w
    parts = x.roll(-1, 1) * y.roll(-2, 1) - x.roll(-2, 1) * y.roll(-1, 1)
    parts = torch.where(parts.sum(dim=1, keepdim=True) < 0.0, -parts, parts).clamp(min=0.0)
    total = parts.sum(dim=1, keepdim=True)
    parts = torch.where(total > 0.0, parts / torch.where(total > 0.0, total, 1.0), 1.0 / 3.0)
    weights[pixel] = parts.to(torch.float32)
    depth[pixel] = (parts * w).sum(dim=1).to(torch.float32)
    return weights, depth
