"""Analytic antialiasing: the coverage of pixel pairs at silhouettes, with a gradient to positions.

After Laine et al., "Modular Primitives for High-Performance Differentiable Rendering" (ACM Trans.
Graph. 39, 2020), section 3.6. A silhouette edge that passes between two pixel centres mixes the
pixel that it cuts with its neighbour, in proportion to the distance from the crossing to the
middle between the centres. That is the only way in which a silhouette feels the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.geometry.diffrender.views import Visible

TOLERANCE = 1.0 / 16.0
"""How far outside the pair, in pixels, a crossing still counts."""
SOFTENED = 1e-3
"""Added to the denominator of the gradient, in pixels."""


@dataclass(frozen=True)
class Pairs:
    """Neighbouring pixels that show different faces, the nearer of which may have a silhouette.

    first, second  (M,) flat pixel numbers, left and right, or upper and lower
    nearer_second  (M,) bool, the nearer face belongs to the second pixel
    face           (M,) the nearer face
    view           (M,) the image that the pair lies in
    vertical       (M,) bool, the first pixel lies above the second
    """

    first: Tensor
    second: Tensor
    nearer_second: Tensor
    face: Tensor
    view: Tensor
    vertical: Tensor


def antialias(
    image: Tensor, visible: Visible, clip: Tensor, faces: Tensor, across: Tensor
) -> Tensor:
    """Antialias images.

    image   (A, C), pixels of `visible.region`, differentiable; every contribution uses its
            unchanged colours
    clip    (K, V, 3) x, y, w, differentiable
    faces   (F, 3); across (F, 3), the vertex beyond each side, or the face's own opposite corner
            where there is no single neighbour

    The gradient to positions ignores that the crossing is clamped to the pair; none flows through
    visibility or the choice of the edge.
    """
    half = visible.size / 2.0
    screen = torch.stack([clip[..., 0], -clip[..., 1]], dim=-1) / clip[..., 2:] * half + half
    silhouette = silhouette_sides(screen.detach(), faces, across)
    of_face = silhouette.any(dim=2)
    pairs = _pairs(visible, of_face)
    first, second, alpha = _coverage(pairs, visible.size, screen, faces, silhouette)
    first, second = visible.region.rows[first], visible.region.rows[second]
    change = alpha[:, None] * (image.index_select(0, second) - image.index_select(0, first))
    return image.index_add(0, torch.where(alpha > 0.0, first, second), change)


def silhouette_sides(screen: Tensor, faces: Tensor, across: Tensor) -> Tensor:
    """(K, F, 3) bool: sides of faces that have both faces, or only one, on the same side of them.

    screen (K, V, 2) pixel coordinates.
    """
    corners = [screen[:, faces[:, k]] for k in range(3)]
    area = _cross(corners[1] - corners[0], corners[2] - corners[0])
    sides = []
    for k in range(3):
        start, end = corners[k], corners[(k + 1) % 3]
        beyond = screen[:, across[:, k]]
        same = _cross(end - start, beyond - start) * area > 0.0
        alone = across[:, k] == faces[:, (k + 2) % 3]
        sides.append(same | alone)
    return torch.stack(sides, dim=2)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _pairs(visible: Visible, has_silhouette: Tensor) -> Pairs:
    """All that lie beside each other, then all that lie above each other."""
    size = visible.size
    ids, depth = visible.face.reshape(-1), visible.depth.reshape(-1)
    differ = torch.zeros((2, *visible.face.shape), dtype=torch.bool, device=ids.device)
    torch.ne(visible.face[:, :, :-1], visible.face[:, :, 1:], out=differ[0, :, :, :-1])
    torch.ne(visible.face[:, :-1], visible.face[:, 1:], out=differ[1, :, :-1])
    found = torch.nonzero(differ.reshape(-1))[:, 0]
    vertical = found >= len(ids)
    first = found - vertical * len(ids)
    # Of two different faces one is there, so both pixels lie in the region.
    second = first + torch.where(vertical, size, 1)
    nearer_second = depth.index_select(0, second) <= depth.index_select(0, first)
    face = ids.index_select(0, torch.where(nearer_second, second, first))
    view = first // (size * size)
    kept = torch.nonzero(has_silhouette[view, face])[:, 0]
    every = (first, second, nearer_second, face, view, vertical)
    return Pairs(*(each.index_select(0, kept) for each in every))


def _coverage(
    pairs: Pairs, size: int, screen: Tensor, faces: Tensor, silhouette: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(first, second, alpha) of the pairs that an edge cuts; alpha (N,) is differentiable.

    alpha > 0: the first pixel takes that much of the second; alpha < 0: the other way round.
    """
    own = torch.where(pairs.nearer_second, pairs.second, pairs.first)
    center = torch.stack([own % size, (own // size) % size], dim=1) + 0.5
    points = screen.detach()[pairs.view[:, None], faces[pairs.face]] - center[:, None]
    x, y = _along(points, pairs.vertical[:, None])
    dx, dy = x.roll(-1, dims=1) - x, y.roll(-1, dims=1) - y
    crosses = (y < 0.0) != (y.roll(-1, dims=1) < 0.0)
    sign = torch.where(pairs.nearer_second, -1.0, 1.0)
    crossing = sign[:, None] * (x * dy - y * dx) / torch.where(crosses, dy, 1.0)
    crossing = torch.where(crosses, crossing, -torch.inf)
    distance, side = crossing.max(dim=1)
    rows = torch.arange(len(side), device=side.device)
    cut = silhouette[pairs.view, pairs.face, side]
    cut &= dy[rows, side].abs() >= dx[rows, side].abs()
    cut &= (distance > -TOLERANCE) & (distance < 1.0 + TOLERANCE)

    cut = torch.nonzero(cut)[:, 0]
    sign, side, face, view, center, vertical, first, second, distance = (
        each.index_select(0, cut)
        for each in (
            sign, side, pairs.face, pairs.view, center, pairs.vertical, pairs.first, pairs.second,
            distance,
        )
    )  # fmt: skip
    alpha = sign * (0.5 - distance.clamp(0.0, 1.0))
    x, y = _along(screen[view, faces[face, side]] - center, vertical)
    end_x, end_y = _along(screen[view, faces[face, (side + 1) % 3]] - center, vertical)
    dx, dy = end_x - x, end_y - y
    moving = -(x * dy - y * dx) / (dy + SOFTENED * dy.detach().sign())
    return first, second, alpha + (moving - moving.detach())


def _along(points: Tensor, vertical: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of points (..., 2) along their pair of pixels, and across it."""
    x, y = points.unbind(dim=-1)
    return torch.where(vertical, y, x), torch.where(vertical, x, y)
