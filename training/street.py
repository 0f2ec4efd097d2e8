"""Random vehicles and buildings, a batch at a time; see `training.families`."""

from __future__ import annotations

import math

import torch

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice

QUARTER = math.pi / 2.0


def vehicle(dice: Dice) -> Builder:
    """Cars, trucks, carts, trains and, with ring wheels and tubes, bicycles. Long along z."""
    made = Builder(dice)
    thin = dice.chance(0.2)
    wide = torch.where(thin, dice.uniform(0.02, 0.06), dice.uniform(0.28, 0.55))
    long, high = dice.uniform(0.6, 1.05), dice.uniform(0.12, 0.38)
    high = torch.where(thin, dice.uniform(0.02, 0.05), high)
    wheel = torch.where(thin, dice.uniform(0.3, 0.45), dice.uniform(0.12, 0.32))
    made.add(
        (0.0, torch.where(thin, wheel * 0.3, 0.0), 0.0),
        (wide, high, long),
        BOX,
        soft=dice.edges(),
        taper=(dice.rarely(0.4, 0.3), dice.rarely(0.4, 0.2)),
    )
    cabin = dice.uniform(0.12, 0.4)
    place = dice.uniform(-0.5, 0.35)
    made.add(
        (0.0, high + cabin * 0.85, long * place),
        (wide * dice.uniform(0.7, 1.0), cabin, long * dice.uniform(0.25, 0.6)),
        BOX,
        soft=dice.edges(),
        taper=(-dice.uniform(0.0, 0.25), -dice.uniform(0.0, 0.45)),
        smooth=dice.uniform(0.003, 0.06),
        on=(~thin & dice.chance(0.85)).float(),
    )
    tyre = torch.where(thin, 0.03, dice.spread(0.04, 0.16))
    hoop = torch.where(thin, wheel, 0.0)
    radius = torch.where(thin, 0.035, wheel)
    side = torch.where(thin, 0.0, wide * dice.uniform(0.85, 1.05))
    spokes = dice.uniform(0.6, 0.95)
    for end in (1.0, -1.0):
        made.add(
            (side, -high, long * 0.65 * end),
            (radius, tyre, radius),
            REVOLVED,
            soft=dice.edges(),
            turn=(0.0, 0.0, QUARTER),
            ring=hoop,
            mirror=((~thin).float(), 0.0),
            dark=dice.chance(0.6),
        )
        made.add(
            (side * 1.02, -high, long * 0.65 * end),
            (wheel * spokes * 0.6, tyre * 1.15, wheel),
            REVOLVED,
            turn=(0.0, 0.0, QUARTER),
            mirror=((~thin).float(), 0.0),
            on=(~thin).float(),
        )
    made.add(  # a bicycle's frame, a wagon's load
        (
            0.0,
            torch.where(thin, wheel * 0.1, high * 1.5),
            torch.where(thin, long * 0.2, -long * 0.3),
        ),
        (
            torch.where(thin, 0.035, wide * 0.8),
            torch.where(thin, wheel * 0.9, high),
            torch.where(thin, 0.035, long * 0.3),
        ),
        BOX,
        turn=(torch.where(thin, -0.5, 0.0), 0.0, 0.0),
        on=(thin | dice.chance(0.3)).float(),
    )
    made.add(
        (0.0, torch.where(thin, wheel * 1.1, -high * 0.4), long * 0.62),
        (torch.where(thin, 0.3, wide * 1.02), 0.04, 0.05),
        BOX,
        on=dice.chance(0.6).float(),
    )
    made.add(
        (wide * 0.6, high * 0.1, long),
        (0.08, 0.08, 0.05),
        ELLIPSOID,
        mirror=(1.0, 0.0),
        on=(~thin & dice.chance(0.6)).float(),
    )
    made.add(
        (0.0, high * 1.3, -long * 0.9),
        (wide * 0.95, 0.03, 0.1),
        BOX,
        on=(~thin & dice.chance(0.25)).float(),
    )
    made.add(  # a saddle, a funnel
        (
            0.0,
            torch.where(thin, wheel * 1.0, high * 1.6),
            torch.where(thin, -long * 0.25, long * 0.55),
        ),
        (torch.where(thin, 0.08, 0.1), torch.where(thin, 0.04, 0.2), torch.where(thin, 0.16, 0.1)),
        torch.where(thin, ELLIPSOID, REVOLVED),
        on=(thin | dice.chance(0.2)).float(),
    )
    return made


def building(dice: Dice) -> Builder:
    """Houses, towers, boxes with things on them; symmetrical or not, sometimes round."""
    made = Builder(dice)
    wide, high, deep = dice.uniform(0.3, 0.85), dice.uniform(0.2, 0.8), dice.uniform(0.3, 0.85)
    tower = dice.chance(0.2)
    deep = torch.where(tower, wide, deep)
    body = torch.where(tower, REVOLVED, BOX)
    lean = dice.rarely(0.2, 0.3)
    made.add(
        (0.0, 0.0, 0.0), (wide, high, deep), body, soft=dice.uniform(0.0, 0.15), taper=(lean, lean)
    )
    roof, eave = dice.uniform(0.1, 0.45), dice.uniform(0.95, 1.3)
    hip = torch.where(tower | dice.chance(0.35), -0.97, 0.0)
    pitched = dice.chance(0.75)
    made.add(
        (0.0, high + roof * 0.95, 0.0),
        (wide * eave, roof, deep * eave),
        body,
        soft=0.02,
        taper=(torch.where(pitched, -0.97, 0.0), torch.where(pitched, hip, 0.0)),
        on=dice.chance(0.85).float(),
    )
    made.add(
        (wide * dice.uniform(-0.6, 0.6), high + roof, deep * dice.uniform(-0.5, 0.5)),
        (0.08, roof * 1.1, 0.08),
        torch.where(dice.chance(0.3), REVOLVED, BOX),
        on=dice.chance(0.5).float(),
    )
    made.add(
        (0.0, -high * 0.45, deep),
        (wide * 0.22, high * 0.5, 0.03),
        BOX,
        on=dice.chance(0.7).float(),
        dark=dice.chance(0.3),
    )
    made.add(
        (wide * 0.55, high * 0.2, deep),
        (wide * 0.17, high * 0.2, 0.03),
        BOX,
        mirror=(1.0, 0.0),
        on=dice.chance(0.6).float(),
        dark=dice.chance(0.4),
    )
    made.add(
        (wide, high * 0.2, deep * 0.4),
        (0.03, high * 0.2, deep * 0.2),
        BOX,
        mirror=(1.0, 1.0),
        on=dice.chance(0.4).float(),
        dark=dice.chance(0.4),
    )
    made.add(
        (0.0, -high, 0.0),
        (wide * 1.3, 0.06, deep * 1.3),
        torch.where(dice.chance(0.3), REVOLVED, BOX),
        on=dice.chance(0.4).float(),
    )
    annex = dice.uniform(0.3, 0.8)
    made.add(
        (wide * dice.uniform(0.8, 1.3), -high * (1 - annex), deep * dice.uniform(-0.4, 0.5)),
        (wide * 0.5, high * annex, deep * 0.6),
        BOX,
        mirror=(dice.chance(0.4), 0.0),
        taper=(dice.rarely(0.2, 0.5), 0.0),
        on=dice.chance(0.4).float(),
    )
    made.add(
        (wide * 1.2, 0.0, deep * 1.2),
        (0.07, high, 0.07),
        REVOLVED,
        mirror=(1.0, dice.chance(0.5)),
        on=dice.chance(0.2).float(),
    )
    made.add(
        (0.0, high * 0.4, 0.0),
        (wide * 1.15, high * 0.08, deep * 1.15),
        body,
        on=dice.chance(0.15).float(),
    )
    made.add(
        (0.0, -high * 0.5, deep * 0.6),
        (wide * 0.5, high * 0.55, deep),
        BOX,
        cut=1.0,
        on=dice.chance(0.15).float(),
    )
    return made
