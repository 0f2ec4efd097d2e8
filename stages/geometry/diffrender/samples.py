"""Where on its face each covered pixel lies, differentiable in the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.geometry.diffrender.views import Region, Visible

SLIVER = 1e-9
"""Added to a face's area in clip units, so that slivers get no infinite gradient."""


@dataclass(frozen=True)
class Samples:
    """The P covered pixels of K images of side S.

    region   the pixels, and those beside them
    pixels   (P,) int64, flat over K, S, S
    faces    (P,) int64, what they show
    corners  (P, 3) int64, vertices of that face
    weights  (P, 3) perspective-correct barycentrics
    """

    region: Region
    pixels: Tensor
    faces: Tensor
    corners: Tensor
    weights: Tensor

    @property
    def view(self) -> Tensor:
        """(P,) int64, the image that a pixel lies in."""
        _, height, width = self.region.shape
        return self.pixels // (height * width)

    def interpolate(self, attributes: Tensor) -> Tensor:
        """(V, C) vertex attributes -> (P, C)."""
        # Corner by corner: a sum over an axis of three is several times slower.
        first, second, third = (
            self.weights[:, k, None] * attributes.index_select(0, self.corners[:, k])
            for k in range(3)
        )
        return first + second + third

    def fill(self, values: Tensor, background: float | Tensor) -> Tensor:
        """(P, C) values of the covered pixels -> (A, C) of the region's, on a plain background."""
        empty = values.new_zeros(len(self.region.pixels), values.shape[1]) + background
        return empty.index_copy(0, self.region.rows.index_select(0, self.pixels), values)


def sample(clip: Tensor, faces: Tensor, visible: Visible) -> Samples:
    """clip (K, V, 3) x, y, w, differentiable; faces (F, 3) int64; visible of the same mesh."""
    ids = visible.face.reshape(-1)
    pixels = torch.nonzero(ids >= 0)[:, 0]
    shown = ids.index_select(0, pixels)
    corners = faces.index_select(0, shown)
    weights = barycentrics(clip, corners, pixels, visible.size)
    return Samples(visible.region, pixels, shown, corners, weights)


def barycentrics(clip: Tensor, corners: Tensor, pixels: Tensor, size: int) -> Tensor:
    """(P, 3) perspective-correct weights of faces at pixel centres, differentiable.

    clip (K, V, 3) x, y, w; corners (P, 3) vertices of the face at each of the flat `pixels` (P,).
    With x' = x - X w and y' = y - Y w for a centre (X, Y) in NDC, the weight of a corner is in
    proportion to x'_j y'_k - x'_k y'_j of the other two (Olano and Greer, 1997).
    """
    count = clip.shape[1]
    column, row = pixels % size, (pixels // size) % size
    view = pixels // (size * size)
    center_x = (2.0 * column + 1.0) / size - 1.0
    center_y = 1.0 - (2.0 * row + 1.0) / size
    first = view * count
    points = clip.reshape(-1, 3)
    x, y = [], []
    for k in range(3):
        corner = points.index_select(0, corners[:, k] + first)
        x.append(corner[:, 0] - center_x * corner[:, 2])
        y.append(corner[:, 1] - center_y * corner[:, 2])
    parts = [x[k - 2] * y[k - 1] - x[k - 1] * y[k - 2] for k in range(3)]
    total = parts[0] + parts[1] + parts[2]
    total = total + torch.where(total < 0.0, -SLIVER, SLIVER)
    return torch.stack(parts, dim=1) / total[:, None]
