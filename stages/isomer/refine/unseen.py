"""Surfaces that no view shows well keep the shape that they had at the start.

A flat top that four views at one height see at 5 degrees or less fills a few rows of pixels, most
of them mixed with what lies beyond its rim, and an Adam makes full steps of however small a
gradient: such surfaces arch and are eaten through while every silhouette stays right. So a vertex
moves on its own only as far as the pictures show it, and ask it to (`asked.py`). For the rest it
goes home, to where it was at the start, but for a share of the mean displacement of its neighbours:
what moves at a rim fades out behind it.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from stages.geometry.diffrender.views import Views, Visible
from stages.geometry.torch_edges import neighbour_means, vertex_normals

BLIND, CLEAR = 0.1, 0.25
"""Cosines between normal and line of sight up to which a view shows nothing of a surface, and from
which it shows all. At 0.1 a pixel of a 512 tile is 0.04 of an object of size 2 deep."""
FADE, FADE_SHOWN = 0.95, 0.6
"""Of a displacement, from one ring of vertices to the next that nothing shows, and that is shown
but not asked to move: where a round rim is drawn into a sharp one, what lies behind it must not
rise by as much."""
LITTLE = 0.03
"""Change that may be anywhere (scene units): an edge of a coarse mesh."""
BIAS = 0.01
"""Depth by which a vertex may lie behind what its pixel shows (scene units), as for colours."""


@torch.no_grad()
def evidence(vertices: Tensor, normals: Tensor, views: Views, visible: Visible) -> Tensor:
    """(V, 1) in [0, 1]: how well the best view shows each vertex.

    vertices, normals (V, 3); visible of the same mesh.
    """
    clip = views.to_clip(vertices)
    depth = clip[..., 2]
    centers = views.centers
    along = centers @ normals.T - (vertices * normals).sum(dim=1)
    squared = centers.square().sum(dim=1)[:, None] - 2.0 * centers @ vertices.T
    cosine = along / (squared + vertices.square().sum(dim=1)).sqrt()
    last = visible.size - 1
    at = ((clip[..., :2] / depth[..., None] + 1.0) * (visible.size / 2.0)).to(torch.int64)
    column, row = at[..., 0].clamp(0, last), last - at[..., 1].clamp(0, last)
    view = torch.arange(len(depth), device=depth.device)[:, None]
    nearest = visible.depth[view, row, column]
    # A surface that is seen at a small cosine rises by more within a pixel.
    rise = BIAS / cosine.clamp(min=BLIND)
    share = ((cosine - BLIND) / (CLEAR - BLIND)).clamp(0.0, 1.0)
    return torch.where(nearest > depth - rise, share, 0.0).amax(dim=0)[:, None]


@torch.no_grad()
def hold(
    before: Tensor,
    after: Tensor,
    homes: Tensor,
    earned: Tensor,
    shown: Tensor,
    asked: Tensor,
    ends: Tensor,
) -> tuple[Tensor, Tensor]:
    """Take back of a step what nothing asks for: (V, 3) positions, and (V, 1) what is earned now.

    A vertex steps as far as it is shown and asked to. For the rest it stays where it had reason to
    go, as far as that is earned, or goes home as near as its neighbours let it.

    before, after, homes (V, 3); earned (V, 1) in [0, 1], the most that it was asked so far; shown
    (V, 1) of `evidence`; asked (V, 1); ends (E, 2) of the edges.
    """
    share = shown * asked
    moved = after - homes
    # The others need no mean of their neighbours.
    ends = ends[(share < 1.0)[:, 0][ends].any(dim=1)]
    fade = torch.where(shown > 0.5, FADE_SHOWN, FADE)
    rest = torch.lerp(fade * neighbour_means(moved, ends), before - homes, earned)
    return homes + torch.lerp(rest, moved, share), torch.maximum(earned, share)


def shown(vertices: np.ndarray, faces: np.ndarray, views: Views) -> np.ndarray:
    """(V,) float32 in [0, 1]: the `evidence` of a mesh, vertices (V, 3) and faces (F, 3)."""
    points, triangles = views.tensors(vertices, faces)
    normals = vertex_normals(points, triangles)
    found = evidence(points, normals, views, views.look(points, triangles))
    return np.asarray(found[:, 0].cpu().numpy())


def eaten(start: np.ndarray, share: np.ndarray, found: np.ndarray) -> float:
    """How far half of what no view shows is at least from where it was, in scene units; 0 where
    that is no further than twice what the views show, or little.

    start (V, 3), share (V,) of it as `shown` says, found (W, 3) vertices of what is made of it.
    What follows its neighbours goes about as far as they do, and half of what is shown stays in
    place also where a surface is eaten up to its rim.
    """
    unseen = share <= 0.0
    if not unseen.any() or unseen.all():
        return 0.0
    distance = cKDTree(found).query(start)[0]
    gone, moved = (float(np.median(distance[rows])) for rows in (unseen, ~unseen))
    return gone if gone > max(LITTLE, 2.0 * moved) else 0.0
