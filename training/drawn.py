"""Scenes as drawings: a few flat colours and dark lines where depth, parts or directions change."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.parts import Dice
from training.scenes import Scenes

STEP = 0.035
"""Difference of neighbouring depths, in half widths, that is drawn as a line."""
CREASE = 0.85
"""Cosine between neighbouring normals below which a crease is drawn."""


def draw(
    scenes: Scenes, plain: Tensor, behind: Tensor, straight: Tensor, dice: Dice
) -> tuple[Tensor, Tensor, Tensor]:
    """Colours and paint (N, 3, S, S) in [0, 1], the latter with lines but without shades; and the
    paint behind, like `behind`, which has neither.

    plain (N, 3, S, S): a colour a part; behind (N, 3, any, any): the same of the last surface;
    straight (N, 1, S, S): how much the light meets. Half have lines and two or three shades, a
    quarter lines alone, the others no lines.
    """

    def chance(share: float) -> Tensor:
        return dice.chance(share)[:, None, None, None]

    def number(low: float, high: float) -> Tensor:
        return dice.uniform(low, high, 1, 1, 1)

    sketched, bare = chance(0.25), chance(0.25)
    paper = torch.where(chance(0.7), 1.0, dice.uniform(0.85, 1.0, 3, 1, 1))
    fill = torch.where(sketched, paper, plain)
    shadow, bright = number(0.1, 0.5), number(0.6, 0.95)
    level = torch.where(straight < shadow, number(0.55, 0.9), 1.0)
    level = torch.where(chance(0.4) & (straight > bright), number(1.05, 1.35), level)
    level = torch.where(sketched | chance(0.35), 1.0, level)
    line = edges(scenes)
    wide = functional.max_pool2d(line, 3, 1, 1)
    wider = functional.max_pool2d(line, 5, 1, 2)
    drawn = number(0.0, 1.0)
    line = torch.where(drawn < 0.35, line, torch.where(drawn < 0.75, wide, wider))
    line = functional.avg_pool2d(line, 3, 1, 1) * 0.5 + line * 0.5
    line = torch.where(bare & ~sketched, 0.0, line) * number(0.7, 1.0)
    ink = torch.where(chance(0.7), number(0.0, 0.25), plain * 0.35)
    ink = torch.where(sketched, number(0.0, 0.35), ink)

    def inked(colors: Tensor) -> Tensor:
        return (colors + (ink - colors) * line).clamp(0.0, 1.0)

    return inked(fill * level), inked(fill), torch.where(sketched, paper, behind)


def edges(scenes: Scenes) -> Tensor:
    """(N, 1, S, S) of 0 and 1: pixels of the object beside another part, a step or a crease."""
    mask, part = scenes.mask, scenes.part
    front, normal = scenes.front.float(), scenes.normal.float()
    found = torch.zeros_like(front)
    for axis in (2, 3):
        for step in (1, -1):
            beside = mask.roll(step, axis)
            differs = (part.roll(step, axis) != part) | (front - front.roll(step, axis) > STEP)
            crease = (normal.roll(step, axis) * normal).sum(1, keepdim=True) < CREASE
            found = torch.maximum(found, (~beside | differs | crease).float())
    return found * mask.float()
