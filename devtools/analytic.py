"""Fields given by formulas, in the place of one that the PRM model read off views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stages.lrm.flexicubes.grid import vertex_count, vertex_positions
from stages.lrm.prm.field import GRID_SCALE, GridValues, TriplaneField


class Analytic(TriplaneField):
    """A signed distance as a function of points (N, 3) in frame T; a point's colour is its place.

    There is no deformation, and all FlexiCubes weights are 0.
    """

    def __init__(self, sdf: Callable[[Tensor], Tensor]) -> None:
        self._sdf = sdf

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def grid_values(self, resolution: int, scale: float = GRID_SCALE) -> GridValues:
        count = vertex_count(resolution)
        points = vertex_positions(torch.arange(count), resolution, scale)
        return GridValues(self._sdf(points), torch.zeros(count, 3))

    def cube_weights(self, cubes: Tensor, resolution: int, scale: float = GRID_SCALE) -> Tensor:
        return torch.zeros(len(cubes), 21)

    def colors(self, points: Tensor) -> Tensor:
        return (points + 1.0) / 2.0


def ball(center: tuple[float, float, float], radius: float) -> Analytic:
    return Analytic(lambda points: (points - torch.tensor(center)).norm(dim=1) - radius)
