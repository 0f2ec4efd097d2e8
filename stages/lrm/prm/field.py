"""One object's shape and colours as functions of position, evaluated a bounded chunk at a time.

The reference gathers the features of all corners of all cubes before one MLP reads them, 16 GB at
resolution 128. Here the only arrays of the grid's size are its signed distance and deformation (16
bytes a vertex, 34 MB at 128); features, 1 kB a point, exist for one chunk of points, and cubes'
weights are computed for the cubes that FlexiCubes asks for, those that the surface crosses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.lrm.flexicubes.grid import cube_corners, vertex_count, vertex_positions
from stages.lrm.prm.decoder import CORNERS, WEIGHTS, Decoder, sample_planes

GRID_SCALE = 2.1
"""Side of the grid in frame T. The planes end at +-1: the outermost vertices read zeros."""


@dataclass(frozen=True)
class GridValues:
    """What FlexiCubes reads of every vertex of a grid of R^3 cubes.

    sdf          ((R + 1)^3,) float32, negative inside
    deformation  ((R + 1)^3, 3) float32 shift of each vertex, frame T
    """

    sdf: Tensor
    deformation: Tensor


class TriplaneField:
    """Triplanes and the decoder that reads them.

    planes        (3, C, H, W) float32
    chunk_points  points whose features exist at once
    """

    def __init__(self, planes: Tensor, decoder: Decoder, chunk_points: int) -> None:
        self._planes = planes
        self._decoder = decoder
        self._chunk_points = chunk_points

    @property
    def device(self) -> torch.device:
        return self._planes.device

    @torch.no_grad()
    def grid_values(self, resolution: int, scale: float = GRID_SCALE) -> GridValues:
        """Signed distance and deformation at all vertices of the grid."""
        count = vertex_count(resolution)
        sdf = self._planes.new_empty(count)
        deformation = self._planes.new_empty(count, 3)
        for part in self._chunks(count, self._chunk_points):
            vertices = torch.arange(part.start, part.stop, device=self._planes.device)
            features = self._features(vertex_positions(vertices, resolution, scale))
            sdf[part] = self._decoder.sdf(features)
            deformation[part] = self._decoder.deformation(features, resolution)
        return GridValues(sdf, deformation)

    @torch.no_grad()
    def cube_weights(self, cubes: Tensor, resolution: int, scale: float = GRID_SCALE) -> Tensor:
        """(M,) int64 indices of cubes -> (M, 21) float32 raw FlexiCubes weights."""
        weights = self._planes.new_empty(len(cubes), WEIGHTS)
        for part in self._chunks(len(cubes), max(1, self._chunk_points // CORNERS)):
            corners = cube_corners(cubes[part], resolution)
            points = vertex_positions(corners.flatten(), resolution, scale)
            features = self._features(points).unflatten(0, (-1, CORNERS))
            weights[part] = self._decoder.cube_weights(features)
        return weights

    @torch.no_grad()
    def colors(self, points: Tensor) -> Tensor:
        """(N, 3) points in frame T -> (N, 3) float32 colours in [0, 1]."""
        colors = self._planes.new_empty(len(points), 3)
        for part in self._chunks(len(points), self._chunk_points):
            colors[part] = self._decoder.rgb(self._features(points[part])).clamp(0.0, 1.0)
        return colors

    def _features(self, points: Tensor) -> Tensor:
        return sample_planes(self._planes, points)

    @staticmethod
    def _chunks(count: int, size: int) -> Iterator[slice]:
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))
