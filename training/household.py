"""Random furniture and vessels, a batch at a time; see `training.families`."""

from __future__ import annotations

import math

import torch

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice

QUARTER = math.pi / 2.0


def furniture(dice: Dice) -> Builder:
    """A seat, top or shelf on legs or a column; backs, arms, cushions."""
    made = Builder(dice)
    wide, deep, high = dice.uniform(0.4, 1.0), dice.uniform(0.35, 0.9), dice.uniform(0.25, 0.9)
    thick = dice.spread(0.025, 0.2)
    round_top = dice.chance(0.25)
    top = torch.where(round_top, REVOLVED, BOX)
    made.add(
        (0.0, 0.0, 0.0), (wide, thick, torch.where(round_top, wide, deep)), top, soft=dice.edges()
    )
    deep = torch.where(round_top, wide, deep)
    column, leg = dice.chance(0.25), dice.spread(0.025, 0.11)
    inset = torch.where(round_top, 0.65, dice.uniform(0.75, 0.95))
    solid = dice.chance(0.15)  # panels instead of legs
    splay = dice.rarely(0.4, 0.25)
    made.add(
        (wide * inset - leg * 0.7, -high * 0.5 - thick * 0.3, deep * inset - leg * 0.7),
        (leg, high * 0.5, torch.where(solid, deep * 0.8, leg)),
        torch.where(dice.chance(0.4) & ~solid, REVOLVED, BOX),
        soft=dice.edges(),
        turn=(-splay, 0.0, splay),
        taper=(dice.rarely(0.4, 0.4), 0.0),
        mirror=(1.0, 1.0),
        on=(~column).float(),
    )
    made.add((0.0, -high * 0.5, 0.0), (leg * 1.4, high * 0.5, leg), REVOLVED, on=column.float())
    star = column & dice.chance(0.5)
    made.add(
        (0.0, -high, 0.0), (wide * 0.6, 0.05, wide * 0.6), REVOLVED, on=(column & ~star).float()
    )
    made.add(
        (wide * 0.35, -high, 0.0),
        (wide * 0.35, 0.04, 0.06),
        BOX,
        fold=dice.whole(3, 6),
        on=star.float(),
    )
    back, rise = dice.chance(0.55), dice.uniform(0.25, 0.75)
    open_back = dice.chance(0.35)
    lean = dice.uniform(-0.25, 0.02)
    made.add(
        (0.0, rise, -deep * 0.93),
        (wide * dice.uniform(0.8, 1.0), rise, dice.spread(0.03, 0.15)),
        BOX,
        soft=dice.edges(),
        turn=(lean, 0.0, 0.0),
        bend=0.0,
        taper=(dice.rarely(0.3, 0.3), 0.0),
        on=(back & ~open_back).float(),
    )
    made.add(
        (wide * 0.88, rise, -deep * 0.9),
        (leg, rise, leg),
        BOX,
        turn=(lean, 0.0, 0.0),
        mirror=(1.0, 0.0),
        on=(back & open_back).float(),
    )
    made.add(
        (0.0, rise * dice.uniform(1.2, 1.9), -deep * 0.92),
        (wide * 0.9, rise * 0.2, leg * 0.8),
        BOX,
        on=(back & open_back).float(),
    )
    arms = back & dice.chance(0.45)
    made.add(
        (wide * 0.95, rise * 0.8, -deep * 0.1),
        (dice.spread(0.04, 0.15), dice.spread(0.03, 0.2), deep * 0.8),
        BOX,
        soft=dice.edges(),
        mirror=(1.0, 0.0),
        on=arms.float(),
    )
    made.add(
        (wide * 0.95, rise * 0.35, deep * 0.5),
        (leg, rise * 0.5, leg),
        mirror=(1.0, 0.0),
        on=arms.float(),
    )
    cushion = dice.chance(0.35)
    made.add(
        (0.0, thick + 0.08, deep * 0.05),
        (wide * 0.85, 0.12, deep * 0.85),
        BOX,
        soft=0.9,
        on=cushion.float(),
    )
    made.add(
        (0.0, -high * dice.uniform(0.4, 0.8), 0.0),
        (wide * 0.85, 0.03, deep * 0.85),
        BOX,
        on=(dice.chance(0.3) & ~column).float(),
    )
    return made


def vessel(dice: Dice) -> Builder:
    """Cups, pots, bottles, vases, bowls, lamps: a stack of turned parts, handles, spouts."""
    made = Builder(dice)
    wide, high = dice.uniform(0.25, 0.75), dice.uniform(0.2, 0.8)
    melt = dice.uniform(0.005, 0.15)
    ball = dice.chance(0.35)
    flare = dice.rarely(0.7, 0.5)
    made.add(
        (0.0, 0.0, 0.0),
        (wide, high, wide),
        torch.where(ball, ELLIPSOID, REVOLVED),
        soft=dice.edges(),
        taper=(flare, flare),
    )
    level, radius = high, wide * (1 + flare)
    cup = dice.chance(0.5)
    for _ in range(3):
        step, width = dice.spread(0.04, 0.35), radius * dice.uniform(0.35, 1.1)
        lean = dice.rarely(0.5, 0.5)
        made.add(
            (0.0, level + step * 0.7, 0.0),
            (width, step, width),
            torch.where(dice.chance(0.75), REVOLVED, ELLIPSOID),
            soft=dice.edges(),
            taper=(lean, lean),
            smooth=melt,
            on=(~cup & dice.chance(0.6)).float(),
        )
        level, radius = level + step * 1.3, width
    made.add(
        (0.0, -high - 0.02, 0.0),
        (wide * dice.uniform(0.4, 1.9), 0.05, wide),
        REVOLVED,
        soft=dice.edges(),
        smooth=0.01,
        on=dice.chance(0.4).float(),
    )
    grip, tube = dice.uniform(0.12, 0.4), dice.spread(0.025, 0.09)
    grips = dice.chance(0.55)
    made.add(
        (-wide - grip * 0.35, high * dice.uniform(-0.2, 0.3), 0.0),
        (tube, tube * dice.uniform(0.7, 1.6), tube),
        REVOLVED,
        soft=0.9,
        turn=(QUARTER, 0.0, 0.0),
        ring=grip,
        mirror=(dice.chance(0.3), 0.0),
        on=grips.float(),
    )
    spout = ~cup & dice.chance(0.4)
    made.add(
        (wide + 0.12, high * 0.1, 0.0),
        (0.1, dice.uniform(0.2, 0.4), 0.1),
        REVOLVED,
        soft=0.4,
        turn=(0.0, 0.0, dice.uniform(-1.1, -0.4)),
        taper=(-0.4, -0.4),
        bend=dice.rarely(0.6, 0.15),
        smooth=0.04,
        on=spout.float(),
    )
    made.add(
        (0.0, 0.0, 0.0),
        (wide * 1.01, high * dice.uniform(0.1, 0.3), wide),
        REVOLVED,
        soft=0.1,
        on=dice.chance(0.2).float(),
    )
    inner = wide * dice.uniform(0.75, 0.93)
    round_inside = torch.where(ball, ELLIPSOID, REVOLVED)
    made.add(
        (0.0, high * 0.35, 0.0),
        (inner, high * dice.uniform(0.7, 1.1), inner),
        round_inside,
        soft=0.15,
        taper=(flare, flare),
        cut=1.0,
        on=cup.float(),
    )
    made.add(
        (0.0, high + wide * 0.8, 0.0),
        (wide * 1.5, wide * 0.8 + high * 0.25, wide * 1.5),
        BOX,
        cut=1.0,
        on=(cup & ball).float(),
    )
    fill = high * dice.uniform(-0.2, 0.5)
    made.add(
        (0.0, fill - 0.3 * high, 0.0),
        (inner * 0.98, high * 0.3, inner),
        REVOLVED,
        soft=0.05,
        on=(cup & ~ball & (flare.abs() < 0.05) & dice.chance(0.5)).float(),
    )
    return made
