"""Random creatures and what grows or flies, a batch at a time; see `training.families`."""

from __future__ import annotations

import math

import torch

from training.parts import BOX, ELLIPSOID, REVOLVED, Builder, Dice

QUARTER = math.pi / 2.0


def creature(dice: Dice) -> Builder:
    """A body with a head, limbs and perhaps ears, horns, wings, a tail: upright or on four legs."""
    made = Builder(dice)
    four = dice.chance(0.4)
    melt = dice.uniform(0.01, 0.09)
    wide, high = dice.uniform(0.2, 0.5), dice.uniform(0.25, 0.6)
    deep = wide * dice.uniform(0.6, 1.1)
    long = torch.where(four, high * dice.uniform(1.0, 1.6), deep)
    high = torch.where(four, wide * dice.uniform(0.8, 1.3), high)
    body = torch.where(dice.chance(0.7), ELLIPSOID, BOX)
    made.add(
        (0.0, 0.0, 0.0),
        (wide, high, long),
        body,
        soft=dice.uniform(0.3, 1.0),
        taper=(dice.rarely(0.4, 0.4), 0.0),
    )
    head = dice.uniform(0.18, 0.55)
    up = high * 0.8 + head * dice.uniform(0.5, 1.1)
    ahead = torch.where(four, long * 0.85 + head * 0.3, dice.uniform(-0.03, 0.15))
    flat = dice.uniform(0.75, 1.2)
    made.add(
        (0.0, up, ahead),
        (head * flat, head, head * dice.uniform(0.75, 1.1)),
        torch.where(dice.chance(0.8), ELLIPSOID, BOX),
        soft=dice.uniform(0.2, 1.0),
        smooth=melt,
    )
    made.add(
        (0.0, (up + high) * 0.4, ahead * 0.55),
        (head * 0.45, (up - 0.2).clamp(min=0.1) * 0.5, head * 0.45),
        BOX,
        soft=1.0,
        turn=(torch.where(four, 0.7, 0.0), 0.0, 0.0),
        smooth=melt,
    )
    made.add(
        (0.0, up - head * 0.15, ahead + head * 0.85),
        (head * 0.4, head * 0.3, head * dice.uniform(0.2, 0.7)),
        ELLIPSOID,
        smooth=melt * 0.5,
        on=dice.chance(0.6).float(),
    )
    made.add(
        (head * 0.38, up + head * 0.2, ahead + head * 0.82),
        (head * 0.13, head * 0.16, head * 0.12),
        ELLIPSOID,
        mirror=(1.0, 0.0),
        dark=dice.chance(0.75),
        on=dice.chance(0.85).float(),
    )
    ear = dice.spread(0.06, 0.28)
    made.add(
        (
            head * flat * dice.uniform(0.5, 0.95),
            up + head * dice.uniform(0.7, 1.1) + ear * 0.3,
            ahead - head * 0.1,
        ),
        (ear * dice.uniform(0.3, 0.9), ear * dice.uniform(0.8, 2.0), ear * dice.uniform(0.2, 0.7)),
        torch.where(dice.chance(0.7), ELLIPSOID, BOX),
        turn=(0.0, 0.0, dice.uniform(-0.8, 0.3)),
        taper=(dice.rarely(0.4, 0.9), 0.0),
        smooth=0.02,
        mirror=(1.0, 0.0),
        on=dice.chance(0.75).float(),
    )
    leg, tall = dice.uniform(0.06, 0.17), dice.uniform(0.15, 0.55)
    for end in (1.0, -1.0):
        made.add(
            (
                wide * 0.6,
                -high * 0.6 - tall * 0.6,
                torch.where(four, long * 0.65 * end, 0.0) + dice.uniform(-0.05, 0.05),
            ),
            (leg, tall, leg),
            BOX,
            soft=dice.uniform(0.4, 1.0),
            turn=(dice.uniform(-0.3, 0.3), 0.0, dice.uniform(-0.1, 0.25)),
            taper=(dice.rarely(0.3, 0.4), 0.0),
            smooth=melt,
            mirror=(1.0, 0.0),
            on=(four.float() if end < 0 else 1.0),
        )
    made.add(
        (wide * 0.65, -high * 0.6 - tall * 1.5, leg * 0.8),
        (leg * 1.1, leg * 0.6, leg * 1.9),
        ELLIPSOID,
        mirror=(1.0, 0.0),
        smooth=0.02,
        on=(~four & dice.chance(0.7)).float(),
    )
    arm, reach, raised = dice.uniform(0.05, 0.13), dice.uniform(0.2, 0.45), dice.uniform(-0.4, 2.6)
    made.add(
        (
            wide * 0.9 + reach * 0.7 * raised.sin().abs(),
            high * 0.45 - reach * 0.7 * raised.cos(),
            dice.uniform(0.0, 0.15),
        ),
        (arm, reach, arm),
        BOX,
        soft=1.0,
        turn=(dice.uniform(-0.9, 0.2), 0.0, raised),
        bend=dice.rarely(0.4, 0.15),
        smooth=melt,
        mirror=(1.0, 0.0),
        on=(~four).float(),
    )
    wing = dice.chance(0.15)
    made.add(
        (wide + 0.25, high * 0.5, -long * 0.4),
        (0.4, 0.3, 0.03),
        BOX,
        turn=(0.0, dice.uniform(-0.5, 0.5), dice.uniform(-0.2, 0.6)),
        taper=(dice.uniform(-0.2, 0.8), 0.0),
        mirror=(1.0, 0.0),
        on=wing.float(),
    )
    tail = dice.uniform(0.15, 0.5)
    made.add(
        (0.0, -high * 0.2 + tail * 0.4, -long - tail * 0.5),
        (leg * 0.8, tail, leg * 0.8),
        BOX,
        soft=1.0,
        turn=(dice.uniform(-1.5, -0.2), QUARTER, 0.0),
        bend=dice.rarely(0.7, 0.25),
        smooth=melt,
        taper=(-dice.uniform(0.0, 0.8), 0.0),
        on=dice.chance(0.5).float(),
    )
    return made


def flyer(dice: Dice) -> Builder:
    """Planes, rockets, fish, boats: a long body along z with fins."""
    made = Builder(dice)
    wide, long = dice.uniform(0.1, 0.3), dice.uniform(0.7, 1.1)
    high = wide * dice.uniform(0.7, 1.6)
    made.add(
        (0.0, 0.0, 0.0),
        (wide, high, long),
        torch.where(dice.chance(0.6), ELLIPSOID, BOX),
        soft=dice.uniform(0.4, 1.0),
    )
    span = dice.uniform(0.3, 0.9)
    chord, sweep = dice.uniform(0.1, 0.35), dice.uniform(-0.1, 0.6)
    made.add(
        (
            wide * 0.5 + span * 0.9,
            high * dice.uniform(-0.5, 0.6),
            dice.uniform(-0.2, 0.25) - span * sweep * 0.6,
        ),
        (chord, span, dice.spread(0.015, 0.06)),
        BOX,
        soft=0.9,
        turn=(QUARTER, QUARTER + sweep, dice.rarely(0.5, 0.2)),
        taper=(-dice.uniform(0.0, 0.6), 0.0),
        mirror=(1.0, 0.0),
        smooth=0.02,
        on=dice.chance(0.85).float(),
    )
    made.add(
        (0.0, high + 0.12, -long * 0.8),
        (0.025, dice.uniform(0.12, 0.35), dice.uniform(0.08, 0.22)),
        BOX,
        turn=(dice.uniform(-0.6, 0.0), 0.0, 0.0),
        taper=(0.0, -dice.uniform(0.0, 0.6)),
        on=dice.chance(0.75).float(),
    )
    made.add(
        (dice.uniform(0.15, 0.3), 0.02, -long * 0.88),
        (dice.uniform(0.15, 0.3), 0.025, 0.12),
        BOX,
        mirror=(1.0, 0.0),
        on=dice.chance(0.65).float(),
    )
    made.add(
        (wide + span * 0.7, -high * 0.4, 0.1),
        (0.09, dice.uniform(0.12, 0.25), 0.09),
        REVOLVED,
        soft=0.5,
        turn=(QUARTER, 0.0, 0.0),
        mirror=(1.0, 0.0),
        on=dice.chance(0.35).float(),
    )
    made.add(
        (0.0, high * 0.75, long * 0.35),
        (wide * 0.6, high * 0.5, long * 0.25),
        ELLIPSOID,
        dark=dice.chance(0.4),
        on=dice.chance(0.5).float(),
    )
    made.add(
        (0.0, high * 0.0, long),
        (0.05, dice.uniform(0.2, 0.4), 0.02),
        BOX,
        fold=0.0,
        turn=(0.0, 0.0, dice.uniform(0.0, 3.0)),
        on=dice.chance(0.2).float(),
    )
    pitch = dice.chance(0.3)
    for row in made.rows[:]:  # some stand on their tails, as rockets do
        turned = row.clone()
        turned[:, 1], turned[:, 2] = row[:, 2], -row[:, 1]
        axes = row[:, 3:12].reshape(-1, 3, 3)
        lift = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]], device=row.device)
        turned[:, 3:12] = (lift @ axes).flatten(1)
        row.copy_(torch.where(pitch[:, None], turned, row))
    return made


def plant(dice: Dice) -> Builder:
    """A stem with crowns, caps, blades or petals: trees, mushrooms, lamps, tools, fans, gears."""
    made = Builder(dice)
    stem, tall = dice.spread(0.025, 0.2), dice.uniform(0.3, 0.95)
    lean = dice.rarely(0.5, 0.4)
    made.add(
        (0.0, 0.0, 0.0),
        (stem, tall, stem),
        REVOLVED,
        soft=dice.edges(),
        taper=(lean, lean),
        bend=dice.rarely(0.3, 0.15),
    )
    for share in (0.95, 0.55, 0.25):
        wide, high = dice.uniform(0.15, 0.6), dice.uniform(0.08, 0.45)
        cone = torch.where(dice.chance(0.4), -0.9, dice.rarely(0.3, 0.5))
        made.add(
            (0.0, tall * share + high * 0.3, 0.0),
            (wide, high, wide),
            dice.choose((REVOLVED, ELLIPSOID, ELLIPSOID)),
            soft=dice.edges(),
            taper=(cone, cone),
            smooth=dice.uniform(0.003, 0.08),
            on=(dice.chance(0.85) if share > 0.9 else dice.chance(0.3)).float(),
        )
    for height in (0.9, 0.2):
        out, size = dice.uniform(0.2, 0.5), dice.spread(0.03, 0.2)
        made.add(
            (out, tall * height, 0.0),
            (out * dice.uniform(0.5, 1.0), size, size * dice.uniform(0.2, 1.0)),
            dice.choose((BOX, ELLIPSOID)),
            soft=dice.edges(),
            turn=(0.0, 0.0, dice.uniform(-0.6, 0.9)),
            fold=dice.whole(2, 7),
            smooth=dice.uniform(0.003, 0.04),
            on=dice.chance(0.45).float(),
        )
    made.add(
        (0.0, -tall, 0.0),
        (dice.uniform(0.15, 0.5), dice.spread(0.03, 0.2), 0.3),
        REVOLVED,
        soft=dice.edges(),
        taper=(-0.3, -0.3),
        on=dice.chance(0.55).float(),
    )
    made.add(
        (0.0, tall * dice.uniform(-0.8, 0.6), 0.0),
        (0.04, 0.04, 0.04),
        REVOLVED,
        soft=1.0,
        ring=dice.uniform(0.1, 0.45),
        turn=(dice.chance(0.5).float() * QUARTER, 0.0, 0.0),
        on=dice.chance(0.25).float(),
    )
    return made
