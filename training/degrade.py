"""What happens to pictures on their way: exposure, softness, noise, JPEG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.parts import Dice

LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""ITU-T T.81, table K.1."""


def soft_edges(mask: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
    """An outline that is a pixel wide from a hard one: alpha (N, 1, S, S), and colours (N, 3, S, S)
    that reach as far as alpha does."""
    solid = mask.float()
    alpha = functional.avg_pool2d(solid, 3, 1, 1, count_include_pad=False)
    alpha = alpha * 0.5 + solid * 0.5
    near = functional.avg_pool2d(colors * solid, 3, 1, 1) / functional.avg_pool2d(
        solid, 3, 1, 1
    ).clamp(min=1e-3)
    return alpha, torch.where(mask, colors, near)


def grade(
    picture: Tensor, paints: Sequence[Tensor], generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Exposure, tint and saturation, as cameras and editors choose them: pictures (N, 3, S, S) in
    [0, 1], and the same for what the first of them are painted with, (M, 3, any, any) each."""
    dice = Dice(len(picture), generator)

    def sometimes(share: float) -> Tensor:
        return dice.chance(share)[:, None, None, None]

    gain, lift = dice.uniform(0.75, 1.12, 1, 1, 1), dice.uniform(-0.04, 0.06, 1, 1, 1)
    tint = 1.0 + dice.normal(3, 1, 1) * 0.07 * sometimes(0.25)
    exposed = sometimes(0.4)
    gain, lift = torch.where(exposed, gain, 1.0) * tint, torch.where(exposed, lift, 0.0)
    keep = torch.where(sometimes(0.2), dice.uniform(0.0, 1.2, 1, 1, 1), 1.0)
    made = []
    for each in (picture, *paints):
        rows = slice(len(each))
        seen = (each * gain[rows] + lift[rows]).clamp(0.0, 1.0)
        grey = seen.mean(1, keepdim=True)
        made.append((grey + (seen - grey) * keep[rows]).clamp(0.0, 1.0))
    return tuple(made)


def degrade(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Softness, noise, JPEG: (N, 3, S, S) in [0, 1] -> the same, a little worse."""
    dice = Dice(len(picture), generator)

    def number(low: float, high: float) -> Tensor:
        return dice.uniform(low, high, 1, 1, 1)

    def sometimes(share: float) -> Tensor:
        return dice.chance(share)[:, None, None, None]

    soft = functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    coarse = functional.interpolate(
        functional.avg_pool2d(picture, 2), size=picture.shape[-1], mode="bilinear"
    )
    picture = torch.where(sometimes(0.4), picture + (soft - picture) * number(0.3, 1.0), picture)
    picture = torch.where(sometimes(0.12), coarse, picture)
    strength = torch.where(sometimes(0.5), number(0.0, 0.035), 0.0)
    picture = (picture + dice.normal(*picture.shape[1:]) * strength).clamp(0.0, 1.0)
    order = torch.randperm(len(picture), generator=generator, device=picture.device)
    some = order[: int(len(picture) * 0.4)]
    picture[some] = jpeg(picture[some], Dice(len(some), generator).uniform(25.0, 92.0))
    return picture


def jpeg(picture: Tensor, quality: Tensor) -> Tensor:
    """Each channel's 8 x 8 blocks through a quantised cosine transform, as JPEG does it to
    brightness; quality (N,) in (0, 100). Sides must be multiples of 8."""
    count, channels, height, width = picture.shape
    k = torch.arange(8, device=picture.device, dtype=torch.float32)
    basis = torch.cos((2.0 * k[None] + 1.0) * k[:, None] * math.pi / 16.0) * 0.5
    basis[0] *= math.sqrt(0.5)
    scale = torch.where(quality < 50.0, 50.0 / quality, 2.0 - quality / 50.0)
    table = torch.tensor(LUMINANCE, device=picture.device, dtype=torch.float32).reshape(8, 8)
    steps = (table * scale[:, None, None]).clamp(min=1.0)[:, None, None, None] / 255.0
    blocks = picture.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4) - 0.5
    waves = basis @ blocks @ basis.T
    blocks = basis.T @ (torch.round(waves / steps) * steps) @ basis + 0.5
    return blocks.transpose(3, 4).reshape(count, channels, height, width).clamp(0.0, 1.0)
