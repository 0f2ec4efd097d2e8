"""Where on its face each covered pixel lies, differentiable in the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.common.diffrender.views import Visible

SLIVER = 1e-9
"""Added to a face's area in clip units, so that slivers get no infinite gradient."""


@dataclass(frozen=True)
class Samples:
    """The P covered pixels of K images of side S.

    shape    (K, S, S)
    pixels   (P,) int64, flat over K, S, S
    faces    (P,) int64, what they show
    corners  (P, 3) int64, vertices of that face
    weights  (P, 3) perspective-correct barycentrics
    """

    shape: torch.Size
    pixels: Tensor
    faces: Tensor
    corners: Tensor
    weights: Tensor

    @property
    def view(self) -> Tensor:
        """(P,) int64, the image that a pixel lies in."""
        return self.pixels // (self.shape[1] * self.shape[2])

    def interpolate(self, attributes: Tensor) -> Tensor:
        """(V, C) vertex attributes -> (P, C)."""
        values = attributes.index_select(0, self.corners.reshape(-1))
        return (self.weights[..., None] * values.reshape(*self.corners.shape, -1)).sum(dim=1)

    def fill(self, values: Tensor, background: float | Tensor) -> Tensor:
        """(P, C) values of the covered pixels -> (K * S * S, C) on a plain background."""
        empty = values.new_zeros(self.shape.numel(), values.shape[1]) + background
        return empty.index_copy(0, self.pixels, values)


def sample(clip: Tensor, faces: Tensor, visible: Visible) -> Samples:
    """clip (K, V, 3) x, y, w, differentiable; faces (F, 3) int64; visible of the same mesh."""
    ids = visible.face.reshape(-1)
    pixels = torch.nonzero(ids >= 0)[:, 0]
    shown = ids.index_select(0, pixels)
    corners = faces.index_select(0, shown)
    weights = barycentrics(clip, corners, pixels, visible.size)
    return Samples(visible.face.shape, pixels, shown, corners, weights)


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
    flat = (corners + view[:, None] * count).reshape(-1)
    points = clip.reshape(-1, 3).index_select(0, flat).reshape(-1, 3, 3)
    x = points[..., 0] - center_x[:, None] * points[..., 2]
    y = points[..., 1] - center_y[:, None] * points[..., 2]
    x1, x2, y1, y2 = x.roll(-1, 1), x.roll(-2, 1), y.roll(-1, 1), y.roll(-2, 1)
    parts = x1 * y2 - x2 * y1
    total = parts.sum(dim=1, keepdim=True)
    return parts / (total + torch.where(total < 0.0, -SLIVER, SLIVER))
