"""What has flat faces all round: prisms, pyramids and bottles of 3 to 10 sides, and cartons."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice

TALL = 3.0
"""Half sides of what is cut away: beyond the object in every direction but one."""


def faceted(dice: Dice) -> Builder:
    """A prism, with or without a shoulder and a neck, or a carton with a ridge; as deep as wide but
    for some cartons. One of four has a small part on it."""
    made = Builder(dice)
    carton = dice.chance(0.3)
    sides = torch.where(carton, 4, dice.whole(3, 10)).float()
    wide, high = dice.spread(0.15, 0.8), dice.spread(0.3, 1.0)
    flare = torch.where(dice.chance(0.25), dice.uniform(-0.9, 0.4), 0.0)
    flare = torch.where(carton, 0.0, flare)
    facets(made, (0.0, high), wide, flare, sides, ~carton)
    deep = torch.where(dice.chance(0.6), wide, wide * dice.spread(0.3, 1.6))
    made.add((0.0, 0.0, 0.0), (wide, high, deep), BOX, soft=0.03, on=carton.float())
    _ridge(made, wide, high, deep, carton)

    top = wide * (1.0 + flare)
    neck = top * dice.uniform(0.2, 0.8)
    rise = top * dice.uniform(0.3, 1.8)
    bottle = ~carton & (flare.abs() < 0.1) & dice.chance(0.5)
    # From `top` below to `neck` above: half way up it is as wide as their mean.
    middle, lean = (top + neck) / 2.0, (neck - top) / (neck + top)
    facets(made, (high + rise / 2.0, rise / 2.0), middle, lean, sides, bottle)
    length = dice.spread(0.05, 0.5)
    made.add(
        (0.0, high + rise + length - 0.02, 0.0),
        (neck, length, neck),
        REVOLVED,
        soft=torch.where(dice.chance(0.7), 0.05, dice.edges()),
        on=(bottle & dice.chance(0.8)).float(),
    )
    made.add(
        (wide * dice.uniform(0.3, 1.0), high * dice.uniform(-1.0, 1.0), 0.0),
        dice.spread(0.04, 0.3, 3).unbind(1),
        dice.choose((BOX, REVOLVED, ELLIPSOID)),
        soft=dice.edges(),
        mirror=(dice.chance(0.5), 0.0),
        on=dice.chance(0.25).float(),
    )
    return made


def facets(
    made: Builder,
    at: tuple[Tensor | float, Tensor],
    wide: Tensor,
    lean: Tensor,
    sides: Tensor,
    on: Tensor,
) -> None:
    """A cylinder or cone about the upright axis, cut to flat sides.

    at    height of its middle, and half its height
    wide  radius of the corners at the middle; 1 + `lean` times that at the top, 1 - `lean` below
    """
    middle, half = at
    shown = on.float()
    made.add(
        (0.0, middle, 0.0), (wide, half, wide), REVOLVED, soft=0.02, taper=(lean, lean), on=shown
    )
    face = wide * torch.cos(math.pi / sides)
    tilt = torch.atan(face * lean / half)
    made.add(
        (face + TALL * torch.cos(tilt), middle - TALL * torch.sin(tilt), 0.0),
        (TALL, TALL, TALL),
        BOX,
        soft=0.0,
        turn=(0.0, 0.0, -tilt),
        fold=sides,
        smooth=0.004,
        cut=1.0,
        on=shown,
    )


def _ridge(made: Builder, wide: Tensor, high: Tensor, deep: Tensor, on: Tensor) -> None:
    """The top of a box cut to two slopes; half of the ridges carry a fin."""
    dice = made.dice
    drop = torch.minimum(wide * dice.uniform(0.4, 1.5), high)
    tilt = torch.atan2(drop, wide)  # of the slope, below the horizontal
    shown = (on & dice.chance(0.7)).float()
    made.add(
        (TALL * torch.sin(tilt), high + TALL * torch.cos(tilt), 0.0),
        (TALL, TALL, TALL),
        BOX,
        soft=0.0,
        turn=(0.0, 0.0, -tilt),
        mirror=(1.0, 0.0),
        smooth=0.004,
        cut=1.0,
        on=shown,
    )
    fin = dice.uniform(0.05, 0.15)
    made.add(
        (0.0, high + fin / 2.0, 0.0),
        (wide * 0.04, fin, deep),
        BOX,
        soft=0.1,
        on=shown * dice.chance(0.5).float(),
    )
