"""Random objects seen by random cameras: everything about them that the network is to tell.

Depths are along the optical axis, from the middle of what is seen towards the camera, in half
widths of the picture at that middle. Normals are in camera axes (x right, y up, z to the camera).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.parts import Dice, Slot
from training.trace import light, trace

LOOK = 56
"""Side of the first, coarse picture, from which an object is framed."""
SHARE = 0.85
"""Of the picture's side that preprocess gives the object."""
REACH = 2.4
"""Of an object from its origin, at most."""
NOWHERE = 50.0


@dataclass
class Scenes:
    """N traced scenes of S x S pixels. What is made of the front surface is 0 off the object.

    mask     (N, 1, S, S) bool
    front    (N, 1, S, S) depth of the nearest surface
    back     (N, 1, S, S) depth of the last surface on the same ray
    normal   (N, 3, S, S) of the front, camera axes
    part     (N, 1, S, S) uint8
    place    (N, 3, S, S) where the pixel's point lies in the object's frame; on the ground plane
             beside the object; NOWHERE in the sky
    shade    (N, 2, S, S) shares of the light and of the sky there
    light    (N, 3) towards the light, camera axes
    dark     (N, K) parts of dark material
    good     (N,) bool: the object is wholly in the picture and not too small
    """

    mask: Tensor
    front: Tensor
    back: Tensor
    normal: Tensor
    part: Tensor
    place: Tensor
    shade: Tensor
    light: Tensor
    dark: Tensor
    good: Tensor

    def take(self, index: Tensor) -> Scenes:
        return Scenes(*(getattr(self, f.name)[index] for f in fields(self)))

    def put(self, start: int, other: Scenes) -> None:
        """Overwrite rows from `start` on."""
        for field in fields(self):
            new = getattr(other, field.name)
            getattr(self, field.name)[start : start + len(new)] = new

    @property
    def thickness(self) -> Tensor:
        return self.front - self.back


def look_at(parts: Tensor, size: int, outlines: Tensor, generator: torch.Generator) -> Scenes:
    """Objects (N, K, ROW) seen by random cameras, under random lights. outlines: see `trace`."""
    dice = Dice(len(parts), generator)
    axes, fov = _cameras(dice)
    distance = 1.7 / torch.sin(fov / 2.0)
    eyes = axes[:, 2] * distance[:, None]
    spans = torch.stack([(distance - REACH).clamp(min=0.05), distance + REACH], 1)
    wide = torch.tan(torch.asin(1.7 / distance)) * 1.25
    window = torch.stack([torch.zeros_like(wide), torch.zeros_like(wide), wide], 1)
    coarse = trace(parts, outlines, _rays(axes, window, LOOK)[0], eyes, spans, 40)
    window, ground, framed = _frame(dice, coarse, axes, eyes, window)
    rays, cosine = _rays(axes, window, size)
    seen = trace(parts, outlines, rays, eyes, spans)
    hit = seen[:, 0] > 0.5

    to_ground = (ground - eyes[:, 1])[:, None] / rays[:, 1].clamp(max=-1e-4)
    on_ground = ~hit & (rays[:, 1] < -0.02) & (to_ground < distance[:, None] + 12.0)
    way = torch.where(hit, seen[:, 1], to_ground)
    place = eyes[:, :, None] + rays * way[:, None]
    place = torch.where((hit | on_ground)[:, None], place, NOWHERE)
    up = torch.tensor([0.0, 1.0, 0.0], device=rays.device)[None, :, None]
    normal = torch.where(hit[:, None], seen[:, 3:6], up)
    lights = _lights(dice, axes)
    shade = light(parts, outlines, place, normal, lights)

    front, back = seen[:, 1] * cosine, seen[:, 2] * cosine
    weight = hit.float()
    total = weight.sum(1).clamp(min=1.0)
    middle = ((front + back) * 0.5 * weight).sum(1) / total
    unit = (middle * window[:, 2])[:, None].clamp(min=1e-6)
    front, back = (((middle[:, None] - d) / unit).clamp(-3.0, 3.0) * weight for d in (front, back))
    local = (axes @ seen[:, 3:6]) * weight[:, None]
    share = total / hit.shape[1]
    good = framed & (share > 0.015) & (share < 0.85) & torch.isfinite(local).all(2).all(1)

    def picture(values: Tensor) -> Tensor:
        return values.reshape(len(parts), -1, size, size)

    return Scenes(
        mask=picture(hit),
        front=picture(front),
        back=picture(back),
        normal=picture(torch.nan_to_num(local)),
        part=picture(seen[:, 6].to(torch.uint8)),
        place=picture(place),
        shade=picture(shade),
        light=(axes @ lights[:, :, None])[:, :, 0],
        dark=parts[:, :, Slot.TONE],
        good=good,
    )


def _cameras(dice: Dice) -> tuple[Tensor, Tensor]:
    """(N, 3, 3), rows right, up and back, and (N,) fields of view in radians.

    A third looks from the front, most of the others three-quarter, some from anywhere.
    """
    kind, side = dice.uniform(), torch.where(dice.chance(0.5), 1.0, -1.0)
    azimuth = torch.where(kind < 0.35, dice.normal() * 0.12, side * dice.uniform(0.3, 1.1))
    azimuth = torch.where(kind > 0.78, dice.uniform(-math.pi, math.pi), azimuth)
    low, high = math.radians(-5.0), math.radians(32.0)
    rise = torch.where(dice.chance(0.35), dice.normal() * 0.05 + 0.08, dice.uniform(low, high))
    fov = torch.where(
        dice.chance(0.3), math.radians(30.0), dice.uniform(math.radians(18.0), math.radians(50.0))
    )
    zero = torch.zeros_like(azimuth)
    right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], 1)
    back = torch.stack([rise.cos() * azimuth.sin(), rise.sin(), rise.cos() * azimuth.cos()], 1)
    up = torch.linalg.cross(back, right)
    return torch.stack([right, up, back], 1), fov


def _rays(axes: Tensor, window: Tensor, size: int) -> tuple[Tensor, Tensor]:
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


def _frame(
    dice: Dice, coarse: Tensor, axes: Tensor, eyes: Tensor, window: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The window round what the coarse picture shows, the ground's height, and whether all is in.

    Half of the objects are framed as preprocess does it, the others loosely.
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
    loose = dice.chance(0.5)
    share = torch.where(loose, dice.uniform(0.45, 0.96), SHARE + dice.normal() * 0.008)
    slack = torch.where(loose, (1.0 - share) * 0.9, 0.0)
    side = half / share
    column = column + side * slack * dice.uniform(-1.0, 1.0)
    line = line + side * slack * dice.uniform(-1.0, 1.0)
    framed = torch.stack([column, line, side], 1)
    framed = torch.where(inside[:, None], framed, window)
    rays = _rays(axes, window, LOOK)[0]
    heights = eyes[:, 1, None] + rays[:, 1] * coarse[:, 1:3].amin(1)
    far = eyes[:, 1, None] + rays[:, 1] * coarse[:, 2]
    lowest = torch.minimum(heights, far)
    ground = torch.where(hit.flatten(1), lowest, math.inf).amin(1)
    return framed, torch.where(inside, ground, -1.0), inside


def _lights(dice: Dice, axes: Tensor) -> Tensor:
    """(N, 3) unit vectors towards the key light: from above and mostly from the camera's side."""
    local = dice.normal(3) * torch.tensor([1.0, 0.35, 0.5], device=axes.device)
    local = local + torch.tensor([0.0, 1.0, 0.7], device=axes.device)
    world = (axes.transpose(1, 2) @ local[:, :, None])[:, :, 0]
    world[:, 1] = world[:, 1].abs().clamp(min=0.2)
    return torch.nn.functional.normalize(world, dim=1)
