"""Balls, boxes, cylinders and the like, alone: what has one right answer; a batch at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice, Slot

QUARTER = math.pi / 2.0


def simple(dice: Dice) -> Builder:
    """One solid, upright most of the time; one of six has a small part on it."""
    made = Builder(dice)
    kind = dice.uniform()

    def among(low: float, high: float) -> Tensor:
        return (kind >= low) & (kind < high)

    ball, egg, cube, brick = (
        among(0.0, 0.26),
        among(0.26, 0.32),
        among(0.32, 0.40),
        among(0.40, 0.62),
    )
    can, cone, capsule, ring = (
        among(0.62, 0.77),
        among(0.77, 0.84),
        among(0.84, 0.88),
        among(0.88, 0.93),
    )
    pyramid, turned = kind >= 0.93, among(0.62, 0.93)
    wide, high, deep = dice.spread(0.25, 1.0), dice.spread(0.2, 1.0), dice.spread(0.1, 1.0)
    high = torch.where(ball | cube, wide, high)
    deep = torch.where(ball | cube | turned | (brick & dice.chance(0.4)), wide, deep)
    tube = wide * dice.uniform(0.15, 0.5)
    soft = torch.where(dice.chance(0.5), 0.03, dice.edges())
    soft = torch.where(capsule, 1.0, torch.where(ring, 0.99, soft))
    point = -dice.uniform(0.75, 0.97)
    lean = torch.where(can & dice.chance(0.2), -0.2, 0.0)
    lean = torch.where(cone | pyramid, point, lean)
    lying = (turned & dice.chance(0.12)) | (ring & dice.chance(0.7))
    upright = torch.where(dice.chance(0.12), dice.uniform(-1.5, 1.5), 0.0)
    made.add(
        (0.0, 0.0, 0.0),
        (torch.where(ring, tube, wide), torch.where(ring, tube, high), deep),
        torch.where(ball | egg, ELLIPSOID, torch.where(can | cone | ring, REVOLVED, BOX)),
        soft=soft,
        turn=(torch.where(lying, QUARTER, dice.rarely(0.08, 0.6)), upright, dice.rarely(0.08, 0.6)),
        taper=(lean, torch.where(pyramid & dice.chance(0.3), 0.0, lean)),
        ring=torch.where(ring, wide, 0.0),
    )
    made.add(
        (0.0, high, 0.0),
        (dice.spread(0.03, 0.15), dice.spread(0.05, 0.25), dice.spread(0.03, 0.15)),
        dice.choose((BOX, REVOLVED, ELLIPSOID)),
        soft=dice.edges(),
        on=(dice.chance(0.16) & ~ring).float(),
    )
    made.rows[0][:, Slot.SIMPLE] = 1.0
    return made
