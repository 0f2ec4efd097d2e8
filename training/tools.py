"""Random things that people hold or wear, their broad side to the front: blades, water pistols,
glasses, spoons and hammers; see `training.families`."""

from __future__ import annotations

import math

import torch

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice

QUARTER = math.pi / 2.0


def blade(dice: Dice) -> Builder:
    """Upright: a thin blade, a guard across, a grip and a knob below."""
    made = Builder(dice)
    long, wide = dice.uniform(0.6, 1.1), dice.spread(0.05, 0.2)
    thin = wide * dice.uniform(0.12, 0.45)
    made.add(
        (0.0, long * 0.6, 0.0),
        (wide, long, thin),
        BOX,
        soft=dice.edges(),
        taper=(-dice.uniform(0.0, 0.9), 0.0),
        bend=dice.rarely(0.3, 0.2),
    )
    low, grip = -long * 0.4, dice.uniform(0.12, 0.3)
    made.add(
        (0.0, low, 0.0),
        (wide * dice.uniform(1.2, 3.5), dice.spread(0.02, 0.06), thin * dice.uniform(1.0, 2.5)),
        BOX,
        soft=dice.edges(),
        on=dice.chance(0.8).float(),
    )
    thick = wide * dice.uniform(0.3, 0.7)
    round_grip = torch.where(dice.chance(0.6), REVOLVED, BOX)
    made.add((0.0, low - grip, 0.0), (thick, grip, thick * 0.8), round_grip, soft=0.4)
    knob = thick * dice.uniform(1.0, 1.8)
    made.add(
        (0.0, low - 2.0 * grip, 0.0),
        (knob, knob, knob * dice.uniform(0.4, 1.0)),
        ELLIPSOID,
        on=dice.chance(0.6).float(),
    )
    return made


def pistol(dice: Dice) -> Builder:
    """Its muzzle to the right or left: body, barrel, grip, tank or magazine, trigger guard."""
    made = Builder(dice)
    way = torch.where(dice.chance(0.5), 1.0, -1.0)
    long, high, deep = dice.uniform(0.5, 0.9), dice.spread(0.1, 0.25), dice.spread(0.06, 0.18)
    made.add((0.0, 0.0, 0.0), (long, high, deep), BOX, soft=dice.edges())
    barrel = dice.uniform(0.1, 0.4)
    made.add(
        (way * (long + barrel * 0.8), high * dice.uniform(-0.3, 0.6), 0.0),
        (deep * dice.uniform(0.3, 0.9), barrel, deep),
        REVOLVED,
        soft=dice.edges(),
        turn=(0.0, 0.0, QUARTER),
    )
    grip = dice.uniform(0.2, 0.4)
    made.add(
        (way * -long * dice.uniform(0.4, 0.8), -high - grip * 0.8, 0.0),
        (dice.uniform(0.1, 0.2), grip, deep * dice.uniform(0.7, 1.0)),
        BOX,
        soft=dice.edges(),
        turn=(0.0, 0.0, way * dice.uniform(-0.4, 0.05)),
    )
    tank = dice.spread(0.1, 0.25)
    made.add(
        (way * long * dice.uniform(-0.6, 0.6), high + tank * 0.6, 0.0),
        (tank * dice.uniform(1.0, 2.0), tank, torch.minimum(tank, deep * 1.6)),
        torch.where(dice.chance(0.5), ELLIPSOID, BOX),
        soft=0.6,
        on=dice.chance(0.5).float(),
    )
    made.add(
        (way * -long * 0.15, -high - 0.08, 0.0),
        (0.03, deep * 0.4, 0.03),
        REVOLVED,
        soft=0.5,
        turn=(QUARTER, 0.0, 0.0),
        ring=dice.uniform(0.08, 0.14),
        on=dice.chance(0.6).float(),
    )
    return made


def glasses(dice: Dice) -> Builder:
    """Two rims or panes, a bridge, temples that run back."""
    made = Builder(dice)
    apart, ring, tube = dice.uniform(0.42, 0.5), dice.uniform(0.25, 0.38), dice.spread(0.02, 0.06)
    flat, pane = dice.uniform(0.6, 1.4), dice.chance(0.6)
    made.add(
        (apart, 0.0, 0.0),
        (tube, tube * flat, tube),
        REVOLVED,
        soft=dice.edges(),
        turn=(QUARTER, 0.0, 0.0),
        ring=ring,
        mirror=(1.0, 0.0),
    )
    made.add(
        (apart, 0.0, 0.0),
        (ring, tube * 0.4, ring),
        REVOLVED,
        turn=(QUARTER, 0.0, 0.0),
        mirror=(1.0, 0.0),
        on=pane.float(),
    )
    made.add(
        (0.0, ring * dice.uniform(0.1, 0.7), 0.0),
        (apart - ring * 0.8, tube, tube),
        BOX,
        soft=0.8,
    )
    back = dice.uniform(0.4, 0.9)
    made.add(
        (apart + ring, ring * dice.uniform(0.1, 0.6), -back),
        (tube * 0.8, tube, back),
        BOX,
        soft=0.5,
        turn=(dice.uniform(-0.1, 0.1), dice.uniform(-0.1, 0.2), 0.0),
        mirror=(1.0, 0.0),
        on=dice.chance(0.75).float(),
    )
    return made


def handled(dice: Dice) -> Builder:
    """Upright: a thin handle with a spoon's bowl, a hammer's head, a pan or a brush on it."""
    made = Builder(dice)
    long, thick = dice.uniform(0.6, 1.0), dice.spread(0.03, 0.1)
    made.add(
        (0.0, -long * 0.4, 0.0),
        (thick, long, thick * dice.uniform(0.3, 1.0)),
        torch.where(dice.chance(0.5), REVOLVED, BOX),
        soft=dice.edges(),
        taper=(dice.rarely(0.5, 0.5), 0.0),
    )
    head = dice.chance(0.5)
    wide, high = dice.spread(0.12, 0.4), dice.spread(0.1, 0.35)
    deep = torch.where(head, wide * dice.uniform(0.3, 1.0), dice.spread(0.03, 0.1))
    top = long * 0.6
    made.add(
        (0.0, top + high * 0.5, 0.0),
        (wide, high, deep),
        torch.where(head, BOX, ELLIPSOID),
        soft=dice.edges(),
    )
    made.add(
        (0.0, top + high * 0.5, deep * 0.8),
        (wide * 0.85, high * 0.85, deep),
        ELLIPSOID,
        cut=1.0,
        on=(~head & dice.chance(0.7)).float(),
    )
    return made
