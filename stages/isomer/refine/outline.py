"""The outline as a curve: vertices on the mesh's contour are pulled onto the silhouette's.

Antialiasing feels a silhouette only where the face at its edge owns a pixel, and no further than
one pixel. On a round surface the outermost faces are slivers that own none: of a ball with edges of
four pixels, 7 % of the outline is felt. The signed distance to the silhouette is felt everywhere,
from both sides.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.geometry.diffrender.views import Views, Visible
from stages.geometry.threads import in_threads
from stages.geometry.torch_edges import face_normals

REACH = 3
"""Side of the window, in pixels, in which a contour vertex must see background."""
BEHIND = 0.2
"""Depth by which a vertex may lie behind what its window shows (scene units): a ball of radius 0.7
rises by 0.11 within a pixel and a half of its outline."""
SLACK = 1.0
"""Pixels by which a contour vertex may lie inside: the contour itself runs up to an edge further
out, and antialiased coverage settles the rest."""
FAR = 2.0
"""Pixels from which the pull no longer grows."""


def outline_loss(
    vertices: Tensor, faces: Tensor, views: Views, visible: Visible, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of the Huber losses of the signed distances at the contour's vertices, in pixels squared,
    and (V,) how many pixels each vertex is off, in the view where that is most; 0 elsewhere.

    distance (K, S, S) float32, pixels to the silhouette, negative inside.
    """
    view, vertex = at_outline(vertices.detach(), faces, views, visible)
    felt = _look_up(distance, view, _projected(vertices, view, vertex, views)[0])
    most = torch.zeros_like(vertices[:, 0].detach())
    most = most.scatter_reduce(0, vertex, felt.detach().abs(), "amax")
    off = felt - felt.detach().clamp(-SLACK, 0.0)
    loss = functional.huber_loss(off, torch.zeros_like(off), reduction="sum", delta=FAR)
    return loss, most


def _projected(
    vertices: Tensor, view: Tensor, vertex: Tensor, views: Views
) -> tuple[Tensor, Tensor]:
    """(N, 2) column and row from -1 to 1, and (N,) depth, of N vertices in a view each."""
    clip = views.to_clip_of(view, vertices.index_select(0, vertex))
    return torch.stack([clip[:, 0], -clip[:, 1]], dim=1) / clip[:, 2:], clip[:, 2]


def _look_up(distance: Tensor, view: Tensor, ndc: Tensor) -> Tensor:
    """(N,) the distances (K, S, S) at ndc (N, 2) of one view each, between pixels bilinear."""
    # Views lie behind one another: a third coordinate in the middle of one takes nothing of others.
    layer = (2.0 * view + 1.0) / len(distance) - 1.0
    grid = torch.cat([ndc, layer[:, None]], dim=1)[None, None, None]
    found = functional.grid_sample(
        distance[None, None], grid, padding_mode="border", align_corners=False
    )
    return found[0, 0, 0, 0]


def at_outline(
    vertices: Tensor, faces: Tensor, views: Views, visible: Visible
) -> tuple[Tensor, Tensor]:
    """(N,) views and (N,) the contour's vertices in each that have background beside them and
    nothing in front."""
    found = _by_loops if vertices.device.type == "cpu" else _by_tensors
    return found(vertices, faces, views, visible)


def _by_tensors(
    vertices: Tensor, faces: Tensor, views: Views, visible: Visible
) -> tuple[Tensor, Tensor]:
    view, vertex = torch.nonzero(contour_vertices(vertices, faces, views), as_tuple=True)
    kept = _at_background(view, *_projected(vertices, view, vertex, views), visible)
    return view[kept], vertex[kept]


def _by_loops(
    vertices: Tensor, faces: Tensor, views: Views, visible: Visible
) -> tuple[Tensor, Tensor]:
    """The same by compiled loops, each view in a thread: a fifth of the time on the CPU."""
    from stages.isomer.refine.kernels import contour

    mesh = vertices.contiguous().numpy(), faces.contiguous().numpy()
    face, depth = visible.face.numpy(), visible.depth.numpy()

    def look(k: int) -> Tensor:
        found = np.empty(len(vertices), np.int64)
        count = contour(*mesh, *views.arrays(k), face[k], depth[k], REACH // 2, BEHIND, found)
        return torch.from_numpy(found[:count].copy())

    found = in_threads(look, range(len(face)), views.threads)
    counts = torch.tensor([len(each) for each in found])
    return torch.arange(len(found)).repeat_interleave(counts), torch.cat(found)


def contour_vertices(vertices: Tensor, faces: Tensor, views: Views) -> Tensor:
    """(K, V) bool: vertices between faces that look at the camera and faces that look away."""
    normals = face_normals(vertices, faces)
    away = views.centers[:, None] - vertices[faces[:, 0]]
    facing = (away * normals).sum(dim=2) > 0.0
    count = facing.new_zeros((2, len(views.cameras), len(vertices)), dtype=torch.int32)
    for side, chosen in enumerate((facing, ~facing)):
        for k in range(3):
            count[side].index_add_(1, faces[:, k], chosen.to(torch.int32))
    return (count > 0).all(dim=0)


def _at_background(view: Tensor, ndc: Tensor, depth: Tensor, visible: Visible) -> Tensor:
    """(N,) bool: background lies beside the vertex' pixel, and nothing in front of the vertex.

    view (N,) images that N vertices are looked for in, ndc (N, 2) column and row from -1 to 1,
    depth (N,).
    """
    last = visible.size - 1
    pixel = (((ndc + 1.0) * visible.size - 1.0) / 2.0).clamp(0, last).round().to(torch.int64)
    steps = torch.arange(REACH, device=ndc.device) - REACH // 2
    column = (pixel[:, 0, None] + steps).clamp(0, last)[:, None, :]
    row = (pixel[:, 1, None] + steps).clamp(0, last)[:, :, None]
    window = (view[:, None, None], row, column)
    open_nearby = (visible.face[window] < 0).any(dim=2).any(dim=1)
    nearest = visible.depth[window].amin(dim=(1, 2))
    return open_nearby & (nearest > depth - BEHIND)
