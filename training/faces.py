"""Random faces and what is as flat as coins, badges and clocks, a batch at a time; see
`training.families`. Seen from the front, they are easily taken for plates seen from above."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice

QUARTER = math.pi / 2.0


def face(dice: Dice) -> Builder:
    """A ball, a disc on its edge or a tile, with a rim, eyes, a nose, a mouth, ears, hair."""
    made = Builder(dice)
    kind = dice.uniform()
    ball, disc = kind < 0.5, (kind >= 0.5) & (kind < 0.85)
    wide = dice.uniform(0.6, 0.95)
    high = wide * torch.where(ball | disc, dice.uniform(0.8, 1.15), dice.uniform(0.7, 1.3))
    high = torch.where(disc | dice.chance(0.5), wide, high)
    deep = wide * torch.where(ball, dice.uniform(0.6, 1.05), dice.spread(0.06, 0.5))
    made.add(
        (0.0, 0.0, 0.0),
        (wide, torch.where(disc, deep, high), torch.where(disc, wide, deep)),
        torch.where(ball, ELLIPSOID, torch.where(disc, REVOLVED, BOX)),
        soft=dice.edges(),
        turn=(disc.float() * QUARTER, 0.0, 0.0),
    )
    tube = deep * dice.uniform(0.2, 1.1)
    made.add(
        (0.0, 0.0, deep * dice.uniform(-0.3, 0.8)),
        (tube, tube, tube),
        REVOLVED,
        soft=0.99,
        turn=(QUARTER, 0.0, 0.0),
        ring=wide * dice.uniform(0.85, 1.05),
        on=(disc & dice.chance(0.5)).float(),
    )

    def surface(x: Tensor, y: Tensor) -> Tensor:
        """How far in front of the middle the face is there."""
        inside = (1.0 - (x / wide) ** 2 - (y / high) ** 2).clamp(min=0.05)
        return torch.where(ball, deep * inside.sqrt(), deep)

    features = dice.chance(0.75)
    flat = dice.uniform(0.02, 0.12)
    size = wide * dice.uniform(0.06, 0.22)
    x, y = wide * dice.uniform(0.2, 0.5), high * dice.uniform(-0.1, 0.35)
    made.add(
        (x, y, surface(x, y)),
        (size, size * dice.uniform(0.6, 1.8), flat),
        ELLIPSOID,
        mirror=(1.0, 0.0),
        dark=dice.chance(0.75),
        on=features.float(),
    )
    made.add(
        (x * dice.uniform(0.9, 1.1), y + size * dice.uniform(1.2, 2.2), surface(x, y)),
        (size * 1.2, size * 0.2, flat),
        BOX,
        soft=0.9,
        turn=(0.0, 0.0, dice.uniform(-0.4, 0.4)),
        mirror=(1.0, 0.0),
        dark=1.0,
        on=(features & dice.chance(0.3)).float(),
    )
    nose, low = wide * dice.uniform(0.06, 0.2), y - high * dice.uniform(0.15, 0.35)
    made.add(
        (0.0, low, surface(torch.zeros_like(low), low)),
        (nose, nose * dice.uniform(0.6, 1.3), nose * dice.uniform(0.4, 1.5)),
        ELLIPSOID,
        dark=dice.chance(0.3),
        smooth=dice.uniform(0.003, 0.05),
        on=(features & dice.chance(0.55)).float(),
    )
    mouth = -high * dice.uniform(0.3, 0.6)
    made.add(
        (0.0, mouth, surface(torch.zeros_like(mouth), mouth)),
        (wide * dice.uniform(0.1, 0.4), wide * dice.spread(0.02, 0.2), flat),
        dice.choose((ELLIPSOID, BOX)),
        soft=0.9,
        dark=dice.chance(0.8),
        on=(features & dice.chance(0.8)).float(),
    )
    _round_about(made, wide, high, deep)
    _emblem(made, wide, deep, ~features & ~ball)
    return made


def _round_about(made: Builder, wide: Tensor, high: Tensor, deep: Tensor) -> None:
    """Ears at the sides or above, hair or a cap on top."""
    dice = made.dice
    ear = wide * dice.uniform(0.12, 0.4)
    up = dice.chance(0.5)
    made.add(
        (
            torch.where(up, wide * dice.uniform(0.45, 0.8), wide * 0.98),
            torch.where(up, high * dice.uniform(0.75, 1.0), high * dice.uniform(-0.2, 0.3)),
            0.0,
        ),
        (ear * dice.uniform(0.5, 1.0), ear * dice.uniform(0.8, 2.2), deep * dice.uniform(0.1, 0.5)),
        torch.where(dice.chance(0.7), ELLIPSOID, BOX),
        turn=(0.0, 0.0, dice.uniform(-0.7, 0.2)),
        taper=(dice.rarely(0.4, 0.9), 0.0),
        smooth=0.02,
        mirror=(1.0, 0.0),
        on=dice.chance(0.45).float(),
    )
    made.add(
        (0.0, high * dice.uniform(0.25, 0.8), -deep * dice.uniform(0.05, 0.3)),
        (wide * dice.uniform(0.8, 1.08), high * dice.uniform(0.3, 0.6), deep * 1.02),
        ELLIPSOID,
        on=dice.chance(0.25).float(),
    )


def _emblem(made: Builder, wide: Tensor, deep: Tensor, on: Tensor) -> None:
    """What a coin, a badge or a clock has on it: a knob, bars from the middle, a star of bars."""
    dice = made.dice
    out = wide * dice.uniform(0.2, 0.7)
    made.add(
        (0.0, 0.0, deep),
        (wide * dice.uniform(0.05, 0.5), wide * dice.spread(0.01, 0.12), out),
        REVOLVED,
        soft=dice.edges(),
        turn=(QUARTER, 0.0, 0.0),
        on=(on & dice.chance(0.6)).float(),
    )
    for _ in range(2):
        angle = dice.uniform(0.0, 2.0 * math.pi)
        made.add(
            (angle.sin() * out * 0.5, angle.cos() * out * 0.5, deep),
            (wide * dice.spread(0.02, 0.12), out * 0.6, wide * 0.05),
            BOX,
            soft=dice.edges(),
            turn=(0.0, 0.0, -angle),
            dark=dice.chance(0.6),
            on=(on & dice.chance(0.5)).float(),
        )
