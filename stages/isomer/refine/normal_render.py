"""Differentiable pictures of per-vertex vectors: normals, and the normals that are wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.isomer.refine.antialias import antialias
from stages.isomer.refine.views import Views, Visible

SLIVER = 1e-9
"""Added to a face's area in clip units, so that slivers get no infinite gradient."""


def render_vectors(
    vertices: Tensor,
    faces: Tensor,
    across: Tensor,
    vectors: Tensor,
    views: Views,
    visible: Visible,
) -> Tensor:
    """(K, S, S, 4): (q + 1) / 2 of the vectors q interpolated over the faces, and coverage.

    vertices (V, 3) and vectors (V, 3) in [-1, 1], both differentiable; faces, across (F, 3) int64;
    visible must be of the same mesh. Background is 0. Interpolated vectors are not renormalised.
    """
    clip = views.to_clip(vertices)
    ids = visible.face.reshape(-1)
    pixels = torch.nonzero(ids >= 0)[:, 0]
    corners = faces.index_select(0, ids[pixels])
    weights = barycentrics(clip, corners, pixels, visible.size)
    colors = (vectors + 1.0) / 2.0
    values = colors.index_select(0, corners.reshape(-1)).reshape(-1, 3, 3)
    shaded = (weights[..., None] * values).sum(dim=1)
    filled = torch.cat([shaded, torch.ones_like(shaded[:, :1])], dim=1)
    image = filled.new_zeros(len(ids), 4).index_copy(0, pixels, filled)
    image = antialias(image, visible, clip, faces, across)
    return image.reshape(*visible.face.shape, 4)


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
