"""Which planes mirror a random object: told from coarse views of it, not from how it was made."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.cameras import REACH, looking, rays_through
from training.trace import trace

SIDE = 36
AWAY = 6.0
ALIKE = 0.015
"""Mean difference of depths, in the object's unit, up to which two views show the same."""
VIEWS = ((0.0, 0.5), (math.pi / 2, 0.5), (math.pi, -0.3), (-math.pi / 2, -0.3), (0.9, 0.5))
"""Azimuths and elevations."""


def mirrors(parts: Tensor, outlines: Tensor, axes: Tensor) -> Tensor:
    """(N, 3, 3) float32: unit normals, in camera axes, of three planes through the objects' middle;
    zeros where a plane is no mirror. The object's own x and z, and, for what is turned about y,
    the plane that holds the camera.

    Both of a plane's views are taken from within it, and have to be their own mirror images, near
    side and far side. axes (N, 3, 3): of the cameras that see the objects.
    """
    count, device = len(parts), parts.device
    views = []
    for azimuth, rise in VIEWS:
        full = torch.full((count,), 1.0, device=device)
        frames = looking(full * azimuth, full * rise)
        wide = math.tan(math.asin(1.9 / AWAY))
        window = torch.tensor([0.0, 0.0, wide], device=device).expand(count, 3)
        rays = rays_through(frames, window, SIDE)[0]
        spans = torch.tensor([AWAY - REACH, AWAY + REACH], device=device).expand(count, 2)
        seen = trace(parts, outlines, rays, frames[:, 2] * AWAY, spans.contiguous(), 40)
        there = seen[:, :1] > 0.5
        depth = torch.where(there, seen[:, 1:3], AWAY + REACH)
        views.append(depth.reshape(count, 2, SIDE, SIDE))

    def same(one: Tensor, other: Tensor) -> Tensor:
        there = (torch.minimum(one, other) < AWAY + REACH - 0.01).float()
        error = (one - other).abs().clamp(max=0.3) * there
        return error.sum((1, 2, 3)) / there.sum((1, 2, 3)).clamp(min=1.0) < ALIKE

    own_x = same(views[0], views[0].flip(3)) & same(views[2], views[2].flip(3))
    own_z = same(views[1], views[1].flip(3)) & same(views[3], views[3].flip(3))
    turned = same(views[0], views[1]) & same(views[2], views[3]) & same(views[0], views[4])
    right = torch.tensor([1.0, 0.0, 0.0], device=device).expand(count, 3)
    normals = torch.stack([axes[:, :, 0], axes[:, :, 2], right], 1)
    return normals * torch.stack([own_x, own_z, turned & own_x], 1).float()[:, :, None]
