"""Random objects seen by random cameras: everything about them that the network is to tell.

Depths are along the optical axis, from the middle of what is seen towards the camera, in half
widths of the picture at that middle. Normals are in camera axes (x right, y up, z to the camera).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.cameras import LOOK, REACH, cameras, frame, lights_for, rays_through
from training.parts import Dice, Slot
from training.symmetry import mirrors
from training.trace import light, trace

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
    behind   (N, 7, S/2, S/2) of the last surface, on every second pixel's ray: normal (camera
             axes), place, part; 0 off the object
    shade    (N, 2, S, S) shares of the light and of the sky there
    light    (N, 3) towards the light, camera axes
    dark     (N, K) parts of dark material
    good     (N,) bool: what is seen of the object is neither too small nor the whole picture
    rise     (N,) elevation of the camera, radians
    upright  (N,) bool: the picture is; others show no ground
    mirrors  (N, 3, 3) unit normals of planes that mirror the object, camera axes; 0: none
    simple   (N,) bool: one plain solid
    """

    mask: Tensor
    front: Tensor
    back: Tensor
    normal: Tensor
    part: Tensor
    place: Tensor
    behind: Tensor
    shade: Tensor
    light: Tensor
    dark: Tensor
    good: Tensor
    rise: Tensor
    upright: Tensor
    mirrors: Tensor
    simple: Tensor

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
    seen_by = cameras(dice)
    axes = seen_by.axes
    distance = 1.7 / torch.sin(seen_by.fov / 2.0)
    eyes = axes[:, 2] * distance[:, None]
    spans = torch.stack([(distance - REACH).clamp(min=0.05), distance + REACH], 1)
    wide = torch.tan(torch.asin(1.7 / distance)) * 1.25
    window = torch.stack([torch.zeros_like(wide), torch.zeros_like(wide), wide], 1)
    coarse = trace(parts, outlines, rays_through(axes, window, LOOK)[0], eyes, spans, 40)
    window, ground, framed = frame(dice, coarse, axes, eyes, window)
    rays, cosine = rays_through(axes, window, size)
    seen = trace(parts, outlines, rays, eyes, spans)
    hit = seen[:, 0] > 0.5

    to_ground = (ground - eyes[:, 1])[:, None] / rays[:, 1].clamp(max=-1e-4)
    on_ground = (
        ~hit
        & seen_by.upright[:, None]
        & (rays[:, 1] < -0.02)
        & (to_ground < distance[:, None] + 12.0)
    )
    way = torch.where(hit, seen[:, 1], to_ground)
    place = eyes[:, :, None] + rays * way[:, None]
    place = torch.where((hit | on_ground)[:, None], place, NOWHERE)
    up = torch.tensor([0.0, 1.0, 0.0], device=rays.device)[None, :, None]
    normal = torch.where(hit[:, None], seen[:, 3:6], up)
    lights = lights_for(dice, axes)
    shade = light(parts, outlines, place, normal, lights)

    front, back = seen[:, 1] * cosine, seen[:, 2] * cosine
    weight = hit.float()
    total = weight.sum(1).clamp(min=1.0)
    middle = ((front + back) * 0.5 * weight).sum(1) / total
    unit = (middle * window[:, 2])[:, None].clamp(min=1e-6)
    front, back = (((middle[:, None] - d) / unit).clamp(-3.0, 3.0) * weight for d in (front, back))
    local = (axes @ seen[:, 3:6]) * weight[:, None]
    out = eyes[:, :, None] + rays * seen[:, 2:3]
    behind = torch.cat([axes @ seen[:, 7:10], out, seen[:, 10:]], 1) * weight[:, None]
    share = total / hit.shape[1]
    good = framed & (share > 0.015) & (share < 0.93) & torch.isfinite(local).all(2).all(1)

    def picture(values: Tensor) -> Tensor:
        return values.reshape(len(parts), -1, size, size)

    return Scenes(
        mask=picture(hit),
        front=picture(front),
        back=picture(back),
        normal=picture(torch.nan_to_num(local)),
        part=picture(seen[:, 6].to(torch.uint8)),
        place=picture(place),
        behind=torch.nan_to_num(picture(behind)[..., ::2, ::2]),
        shade=picture(shade),
        light=(axes @ lights[:, :, None])[:, :, 0],
        dark=parts[:, :, Slot.TONE],
        good=good,
        rise=seen_by.rise,
        upright=seen_by.upright,
        mirrors=mirrors(parts, outlines, axes),
        simple=parts[:, 0, Slot.SIMPLE] > 0.5,
    )
