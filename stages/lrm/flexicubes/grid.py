"""The grid of R^3 cubes and (R + 1)^3 vertices that FlexiCubes works on.

Vertex (i, j, k) has index (i (R + 1) + j) (R + 1) + k and lies at ((i, j, k) / R - 1/2) scale; cube
(i, j, k) has index (i R + j) R + k and corner c = dx + 2 dy + 4 dz at (i + dx, j + dy, k + dz).
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.lrm.flexicubes.tables import CORNERS


def vertex_count(resolution: int) -> int:
    """(R + 1)^3."""
    return (resolution + 1) ** 3


def vertex_positions(indices: Tensor, resolution: int, scale: float) -> Tensor:
    """(..., 3) float32 positions of grid vertices (...,) int64, undeformed, in the field's frame.

    The published code rounds i / R to five digits, so its grid differs by up to 1e-5.
    """
    return (unravel(indices, resolution + 1) / resolution - 0.5) * scale


def cube_corners(cubes: Tensor, resolution: int) -> Tensor:
    """(M, 8) int64 grid vertices at the corners of cubes (M,) int64."""
    side = resolution + 1
    i, j, k = unravel(cubes, resolution).unbind(-1)
    step = torch.tensor((side * side, side, 1), device=cubes.device)
    offsets = (torch.tensor(CORNERS, device=cubes.device) * step).sum(dim=1)
    return ((i * side + j) * side + k)[:, None] + offsets


def unravel(indices: Tensor, side: int) -> Tensor:
    """(...,) indices of a grid of side^3 -> (..., 3) int64 coordinates."""
    return torch.stack((indices // (side * side), indices // side % side, indices % side), dim=-1)
