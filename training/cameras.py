"""Random cameras, lights and framings of random objects, as numbers for a batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.parts import Dice

LOOK = 56
"""Side of the first, coarse picture, from which an object is framed."""
SHARE = 0.85
"""Of the picture's side that preprocess gives the object."""
REACH = 2.4
"""Of an object from its origin, at most."""


@dataclass(frozen=True)
class Cameras:
    """axes (N, 3, 3), see `looking`; rise (N,) elevations and fov (N,) fields of view in radians;
    upright (N,) bool: the object's up lies above its middle in the picture."""

    axes: Tensor
    rise: Tensor
    fov: Tensor
    upright: Tensor


def cameras(dice: Dice) -> Cameras:
    """A third looks from the front, most of the others three-quarter, one of ten from a side, as
    animals and cars are drawn, some from anywhere; one of six looks down, as people do at what lies
    on a table. One of twelve is rolled, as swords and shoes are often shown.
    """
    kind, side = dice.uniform(), torch.where(dice.chance(0.5), 1.0, -1.0)
    azimuth = torch.where(kind < 0.35, dice.normal() * 0.12, side * dice.uniform(0.3, 1.1))
    azimuth = torch.where(kind > 0.72, side * math.pi / 2.0 + dice.normal() * 0.12, azimuth)
    azimuth = torch.where(kind > 0.82, dice.uniform(-math.pi, math.pi), azimuth)
    low, high = math.radians(-5.0), math.radians(32.0)
    rise = torch.where(dice.chance(0.35), dice.normal() * 0.05 + 0.08, dice.uniform(low, high))
    rise = torch.where(dice.chance(0.17), dice.uniform(high, math.radians(65.0)), rise)
    fov = torch.where(
        dice.chance(0.3), math.radians(30.0), dice.uniform(math.radians(18.0), math.radians(50.0))
    )
    upright = ~dice.chance(0.085)
    roll = torch.where(dice.chance(0.5), 1.0, -1.0) * dice.uniform(0.35, 1.4)
    axes = rolled(looking(azimuth, rise), torch.where(upright, 0.0, roll))
    return Cameras(axes, rise, fov, upright)


def looking(azimuth: Tensor, rise: Tensor) -> Tensor:
    """(N, 3, 3): rows right, up and back of cameras that look at the origin, radians."""
    zero = torch.zeros_like(azimuth)
    right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], 1)
    back = torch.stack([rise.cos() * azimuth.sin(), rise.sin(), rise.cos() * azimuth.cos()], 1)
    return torch.stack([right, torch.linalg.cross(back, right), back], 1)


def rolled(axes: Tensor, roll: Tensor) -> Tensor:
    """(N, 3, 3) cameras turned about their own optical axes by (N,) radians."""
    right, above, back = axes.unbind(1)
    cosine, sine = roll.cos()[:, None], roll.sin()[:, None]
    return torch.stack([cosine * right + sine * above, cosine * above - sine * right, back], 1)


def rays_through(axes: Tensor, window: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Unit rays (N, 3, P) through pixel centres, and (N, P) their cosine with the optical axis.

    window (N, 3): centre and half side of the picture on the plane one unit ahead.
    """
    steps = (torch.arange(size, device=axes.device) + 0.5) * (2.0 / size) - 1.0
    u = (window[:, 0, None, None] + steps[None, None, :] * window[:, 2, None, None]).expand(
        -1, size, -1
    )
    v = (window[:, 1, None, None] - steps[None, :, None] * window[:, 2, None, None]).expand(
        -1, -1, size
    )
    local = torch.stack([u, v, -torch.ones_like(u)], 1).flatten(2)
    cosine = 1.0 / local.norm(dim=1)
    return axes.transpose(1, 2) @ (local * cosine[:, None]), cosine


def frame(
    dice: Dice, coarse: Tensor, axes: Tensor, eyes: Tensor, window: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The window round what the coarse picture shows, the ground's height, and whether all is in.

    Four of ten are framed as preprocess does it, as many loosely; the others fill the picture or
    go on beyond its lower edge or its sides, as portraits do.
    """
    hit = coarse[:, 0].reshape(-1, LOOK, LOOK) > 0.5
    index = torch.arange(LOOK, device=hit.device)

    def span(flags: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.where(flags, index, LOOK).amin(1).float()
        last = torch.where(flags, index, -1).amax(1).float()
        return first, last

    left, right = span(hit.any(1))
    top, bottom = span(hit.any(2))
    inside = (left > 0) & (top > 0) & (right < LOOK - 1) & (bottom < LOOK - 1) & (right >= left)
    wide = window[:, 2]
    column = ((left + right + 1.0) / LOOK - 1.0) * wide
    line = -((top + bottom + 1.0) / LOOK - 1.0) * wide
    half = torch.maximum(right - left + 1.0, bottom - top + 1.0) / LOOK * wide
    kind = dice.uniform()
    loose, large, cut = kind < 0.42, kind > 0.78, kind > 0.86
    share = torch.where(loose, dice.uniform(0.45, 0.96), SHARE + dice.normal() * 0.008)
    share = torch.where(large, dice.uniform(0.93, 1.02), share)
    share = torch.where(cut, dice.uniform(1.05, 1.7), share)
    side = half / share
    slack = torch.where(loose, (1.0 - share) * 0.9, torch.where(cut, 0.15, 0.0))
    column = column + side * slack * dice.uniform(-1.0, 1.0)
    tall = (bottom - top + 1.0) / LOOK * wide > side * 0.95
    below = -(2.0 * top / LOOK - 1.0) * wide - side * (1.0 - dice.uniform(0.02, 0.35))
    anywhere = line + side * slack * dice.uniform(-1.0, 1.0)
    line = torch.where(cut & tall & dice.chance(0.8), below, anywhere)
    framed = torch.stack([column, line, side], 1)
    framed = torch.where(inside[:, None], framed, window)
    rays = rays_through(axes, window, LOOK)[0]
    heights = eyes[:, 1, None] + rays[:, 1] * coarse[:, 1:3].amin(1)
    far = eyes[:, 1, None] + rays[:, 1] * coarse[:, 2]
    lowest = torch.minimum(heights, far)
    ground = torch.where(hit.flatten(1), lowest, math.inf).amin(1)
    return framed, torch.where(inside, ground, -1.0), inside


def lights_for(dice: Dice, axes: Tensor) -> Tensor:
    """(N, 3) unit vectors towards the key light: from above and mostly from the camera's side."""
    local = dice.normal(3) * torch.tensor([1.0, 0.35, 0.5], device=axes.device)
    local = local + torch.tensor([0.0, 1.0, 0.7], device=axes.device)
    world = (axes.transpose(1, 2) @ local[:, :, None])[:, :, 0]
    world[:, 1] = world[:, 1].abs().clamp(min=0.2)
    return torch.nn.functional.normalize(world, dim=1)
