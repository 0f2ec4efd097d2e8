"""What stands behind and below objects: white, plain, gradients, floors, walls, blurred clutter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.parts import Dice


@dataclass
class Props:
    """materials (M, 3, T, T) and photographs (P, 3, T, T) in [0, 1]; things (R, 4, S, S) uint8,
    with alpha."""

    materials: Tensor
    photographs: Tensor
    things: Tensor


def ground(
    place: Tensor | None, count: int, size: int, props: Props, generator: torch.Generator
) -> Tensor:
    """(count, 3, size, size) in [0, 1].

    place (N, 3, S, S): where floors are seen (further than 20 out: nowhere), or None for pictures
    without a floor.
    """
    dice = Dice(count, generator)

    def number(low: float, high: float, channels: int = 1) -> Tensor:
        return dice.uniform(low, high, channels, 1, 1)

    kind = dice.uniform(0.0, 1.0, 1, 1, 1)
    clean = torch.where(dice.chance(0.7)[:, None, None, None], 1.0, number(0.85, 1.0))
    plain = torch.where(
        dice.chance(0.4)[:, None, None, None],
        number(0.0, 1.0).expand(-1, 3, -1, -1),
        number(0.0, 1.0, 3),
    )
    fall = torch.linspace(0.0, 1.0, size, device=dice.device)[None, None, :, None]
    fall = torch.where(dice.chance(0.6)[:, None, None, None], fall, fall.transpose(2, 3))
    gradient = plain + (number(0.0, 1.0, 3) - plain) * number(0.2, 1.0) * fall
    made = torch.where(kind < 0.55, clean, torch.where(kind < 0.78, plain, gradient))
    made = made.expand(-1, 3, size, size)
    made = made.clone()
    some = torch.randperm(count, generator=generator, device=dice.device)[: int(count * 0.52)]
    made[some] = clutter(Dice(len(some), generator), size, props)
    if place is not None:
        floor = _floor(dice, place, props.materials)
        lies = torch.zeros(count, dtype=torch.bool, device=dice.device)
        lies[some[: len(some) * 2 // 5]] = True
        made = torch.where((place[:, :1].abs() < 20.0) & lies[:, None, None, None], floor, made)
    return made.clamp(0.0, 1.0)


def clutter(dice: Dice, size: int, props: Props) -> Tensor:
    """A wall of some material or a place, soft noise, and things that stand about, out of focus."""
    count, device = dice.count, dice.device
    materials, photographs = props.materials, props.photographs
    wall = _crop(dice, materials[dice.whole(0, len(materials) - 1)], size, 0.2, 1.0)
    low = _crop(dice, materials[dice.whole(0, len(materials) - 1)], size, 0.2, 1.0)
    place = _crop(dice, photographs[dice.whole(0, len(photographs) - 1)], size, 0.35, 1.0)
    outside = dice.chance(0.5)[:, None, None, None]
    wall = torch.where(outside, place, wall)
    low = torch.where(outside & dice.chance(0.8)[:, None, None, None], place, low)
    line = dice.uniform(0.35, 1.1, 1, 1, 1)
    rows = torch.linspace(0.0, 1.0, size, device=device)[None, None, :, None]
    made = torch.where(rows > line, low, wall)
    noise = torch.zeros(count, 3, size, size, device=device)
    for cells in (3, 7, 16, 40):
        drawn = dice.uniform(-1.0, 1.0, 3, cells, cells) * (4.0 / cells) ** 0.6
        drawn = drawn + (drawn.mean(1, keepdim=True) - drawn) * dice.uniform(0.3, 1.0, 1, 1, 1)
        noise += functional.interpolate(drawn, size=size, mode="bilinear")
    tinted = dice.uniform(0.0, 1.0, 3, 1, 1)
    made = made * (0.5 + 0.7 * tinted) + noise * dice.uniform(0.0, 0.35, 1, 1, 1)
    for _ in range(3):
        other = props.things[dice.whole(0, len(props.things) - 1)].float() / 255.0
        other = _crop(dice, other, size, 1.2, 4.0, zeros=True)
        for _ in range(2):  # never as sharp as the subject
            other = soft(other, 11)
        there = other[:, 3:] * dice.chance(0.4).float()[:, None, None, None]
        made = made * (1.0 - there) + other[:, :3] * there
    return blurred(made, dice)


def blurred(picture: Tensor, dice: Dice) -> Tensor:
    """Out of focus by a random amount, from not at all to a good deal."""
    size = picture.shape[-1]
    wide = soft(soft(picture, 5), 5)
    wider = functional.interpolate(functional.avg_pool2d(wide, 8, 8), size=size, mode="bilinear")
    far = functional.interpolate(
        functional.avg_pool2d(soft(picture, 33), 16), size=size, mode="bilinear"
    )
    drawn = dice.uniform(0.0, 1.0, 1, 1, 1)
    out = torch.where(drawn < 0.75, wider, far)
    return torch.where(drawn < 0.2, picture, torch.where(drawn < 0.5, wide, out))


def soft(picture: Tensor, wide: int) -> Tensor:
    """Means of squares `wide` pixels wide; at the rim, of what there is of them."""
    return functional.avg_pool2d(picture, wide, 1, wide // 2, count_include_pad=False)


def bystanders(behind: Tensor, colors: Tensor, alpha: Tensor, dice: Dice) -> Tensor:
    """Grounds (N, 3, S, S) with other pictures' objects (colors (N, 3, S, S), alpha (N, 1, S, S))
    beside and behind the place of the subject, smaller than it and often out of focus; a fourth of
    them."""
    order = torch.randperm(dice.count, generator=dice.generator, device=dice.device)
    some = order[: dice.count // 4]
    others = order[dice.count // 2 : dice.count // 2 + len(some)]
    if not len(some):
        return behind
    made, chosen = behind[some], torch.cat([colors[others] * alpha[others], alpha[others]], 1)
    dice = Dice(len(some), dice.generator)
    for side in (-1.0, 1.0):
        share = dice.uniform(0.3, 0.95)
        at = torch.stack([side * dice.uniform(0.55, 1.15), dice.uniform(-0.6, 0.7)], 1)
        theta = torch.zeros(len(some), 2, 3, device=dice.device)
        theta[:, 0, 0], theta[:, 1, 1] = -side / share, 1.0 / share
        theta[:, 0, 2], theta[:, 1, 2] = at[:, 0] * side / share, -at[:, 1] / share
        grid = functional.affine_grid(theta, list(chosen.shape), align_corners=False)
        seen = blurred(functional.grid_sample(chosen, grid, align_corners=False), dice)
        seen = seen * dice.chance(0.7).float()[:, None, None, None]
        made = made * (1.0 - seen[:, 3:]) + seen[:, :3]
    behind = behind.clone()
    behind[some] = made
    return behind


def _crop(
    dice: Dice, pictures: Tensor, size: int, low: float, high: float, zeros: bool = False
) -> Tensor:
    """A random square of each picture, `low` to `high` of its side wide, perhaps in a mirror."""
    side = dice.uniform(low, high)
    turn = torch.where(dice.chance(0.5), 1.0, -1.0)
    theta = torch.zeros(dice.count, 2, 3, device=dice.device)
    theta[:, 0, 0], theta[:, 1, 1] = side * turn, side
    slack = (1.0 - side).abs()
    theta[:, 0, 2] = slack * dice.uniform(-1.0, 1.0)
    theta[:, 1, 2] = slack * dice.uniform(-1.0, 1.0)
    grid = functional.affine_grid(
        theta, [dice.count, pictures.shape[1], size, size], align_corners=False
    )
    padding = "zeros" if zeros else "reflection"
    return functional.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)


def _floor(dice: Dice, place: Tensor, materials: Tensor) -> Tensor:
    """A material lying on the ground plane, fainter with the distance."""
    chosen = materials[dice.whole(0, len(materials) - 1)]
    grid = place[:, [0, 2]].float().clamp(-20.0, 20.0) * dice.spread(0.15, 0.8, 1, 1, 1)
    seen = functional.grid_sample(
        chosen, grid.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
    )
    far = place[:, [0, 2]].float().norm(dim=1, keepdim=True)
    haze = dice.uniform(0.4, 1.0, 3, 1, 1)
    share = torch.exp(-far * dice.uniform(0.02, 0.25, 1, 1, 1))
    return seen * share + haze * (1.0 - share)
