"""Kinds of random objects: heaps of parts, cut-out outlines, furniture, creatures and so on.

None is a copy of a shape of bench/geometry. Lengths before the object is framed; +z is its front.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.faces import face
from training.faceted import faceted
from training.household import furniture, vessel
from training.living import creature, flyer, plant
from training.parts import BOX, ELLIPSOID, OUTLINE, REVOLVED, Builder, Dice
from training.simple import simple
from training.street import building, vehicle
from training.tools import blade, glasses, handled, pistol


def heap(dice: Dice) -> Builder:
    """Parts of any kind that grow out of earlier ones, mostly symmetrical."""
    made = Builder(dice)
    mirror_x, mirror_z = dice.chance(0.7).float(), dice.chance(0.25).float()
    melt = dice.uniform(0.003, 0.08)
    centres: list[Tensor] = []
    halves: list[Tensor] = []
    wanted = dice.whole(1, 8)
    rows = torch.arange(dice.count, device=dice.device)
    for index in range(9):
        half = dice.spread(0.05, 0.55, 3) * (1.5 if index == 0 else 1.0)
        if index == 0:
            centre = torch.zeros_like(half)
        else:
            parent = (dice.uniform() ** 1.5 * index).long()
            origin = torch.stack(centres, 1)[rows, parent]
            reach = torch.stack(halves, 1)[rows, parent]
            away = dice.normal(3)
            axis = torch.nn.functional.one_hot(away.abs().argmax(1), 3) * away.sign()
            straight = dice.chance(0.6)[:, None]
            away = torch.where(straight, axis, torch.nn.functional.normalize(away, dim=1))
            centre = origin + away * (reach * 0.95 + half * 0.4) + dice.normal(3) * 0.03
        centres.append(centre)
        halves.append(half)
        kind = dice.choose((BOX, REVOLVED, ELLIPSOID))
        lean = dice.chance(0.4)[:, None] * dice.normal(3) * 0.5
        both = (index > 0) * 1.0
        ring = torch.where(dice.chance(0.3) & (kind == REVOLVED), half[:, 0], 0.0)
        thick = torch.where(ring > 0.0, 0.3, 1.0)
        made.add(
            centre.unbind(1),
            (half[:, 0] * thick, half[:, 1] * thick, half[:, 2]),
            kind,
            soft=dice.edges(),
            turn=lean.unbind(1),
            taper=(dice.rarely(0.3, 0.7), dice.rarely(0.3, 0.7)),
            bend=dice.rarely(0.15, 0.3),
            ring=ring,
            mirror=(mirror_x * both, mirror_z * both),
            smooth=melt,
            on=(index <= wanted).float(),
        )
    _hollow(made, (0.0, halves[0][:, 1] * 0.5, 0.0), halves[0] * 0.75, dice.chance(0.15))
    return made


def cutting(dice: Dice) -> Builder:
    """The outline of a picture as a solid: a flat plate with round edges, or puffed up."""
    made = Builder(dice)
    puffed = dice.chance(0.65)
    depth = torch.where(puffed, dice.uniform(0.15, 0.6), dice.spread(0.03, 0.4))
    number = dice.uniform() * dice.outlines
    made.add(
        (0.0, 0.0, 0.0),
        (1.0, 1.0, depth),
        OUTLINE,
        soft=dice.uniform(0.05, 0.9),
        outline=number.floor(),
        inflated=torch.where(puffed, depth * dice.uniform(0.7, 1.3), 0.0),
        turn=(dice.uniform(-0.15, 0.15), 0.0, 0.0),
    )
    for _ in range(4):
        size = dice.spread(0.06, 0.25, 3)
        made.add(
            (dice.uniform(-0.6, 0.6), dice.uniform(-0.6, 0.6), depth * dice.uniform(0.2, 1.0)),
            size.unbind(1),
            dice.choose((BOX, REVOLVED, ELLIPSOID)),
            soft=dice.edges(),
            mirror=(dice.chance(0.5), 0.0),
            smooth=dice.uniform(0.003, 0.04),
            on=dice.chance(0.25).float(),
        )
    return made


Family = Callable[[Dice], Builder]
FAMILIES: tuple[tuple[Family, float], ...] = (
    (heap, 0.08), (furniture, 0.12), (vehicle, 0.08), (creature, 0.12), (flyer, 0.05),
    (vessel, 0.09), (building, 0.07), (cutting, 0.04), (plant, 0.04), (simple, 0.12),
    (faceted, 0.09), (face, 0.04), (blade, 0.015), (pistol, 0.015), (glasses, 0.015),
    (handled, 0.015),
)  # fmt: skip
"""Each with its share of the objects."""


def objects(count: int, generator: torch.Generator, outlines: int) -> Tensor:
    """(count, MAX_PARTS, ROW) float32: random objects; `outlines` outlines are at hand."""
    dice = Dice(count, generator, outlines)
    shares = torch.tensor([share for _, share in FAMILIES], device=dice.device)
    chosen = torch.multinomial(shares, count, replacement=True, generator=generator)
    made = torch.stack([family(dice).finish() for family, _ in FAMILIES])
    return made[chosen, torch.arange(count, device=dice.device)].contiguous()


def _hollow(made: Builder, at: tuple[float, Tensor, float], half: Tensor, on: Tensor) -> None:
    made.add(at, half.unbind(1), BOX, soft=0.1, cut=1.0, on=on.float())
