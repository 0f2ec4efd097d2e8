"""Renders and drawings with alpha, put on grounds: pictures of which only the outline is known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.grounds import Props, bystanders, ground
from training.parts import Dice

CUT = 0.16
"""Share that goes on beyond the picture's lower edge."""


def composed_renders(
    renders: Tensor, drawings: Tensor, props: Props, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pictures (count, 3, S, S) and alphas (count, 1, S, S) in [0, 1]: turned and scaled a little,
    as often a render as a drawing, some with a soft shadow, a grain, or uneven light."""
    dice = Dice(count, generator)
    half = count // 2
    chosen = torch.cat(
        [
            renders[dice.whole(0, len(renders) - 1)[half:]],
            drawings[dice.whole(0, len(drawings) - 1)[:half]],
        ]
    )
    size = chosen.shape[-1]
    chosen = chosen.float() / 255.0
    chosen[:, :3] *= chosen[:, 3:]
    grid = functional.affine_grid(_placed(dice), list(chosen.shape), align_corners=False)
    seen = functional.grid_sample(chosen, grid, align_corners=False)
    alpha = seen[:, 3:]
    behind = ground(None, count, size, props, generator)
    low = functional.avg_pool2d(alpha, 17, 1, 8).roll((8, 4), (2, 3))
    strength = dice.uniform(0.0, 0.6, 1, 1, 1) * dice.chance(0.4).float()[:, None, None, None]
    gamma = torch.where(dice.chance(0.4), dice.uniform(0.7, 1.4), 1.0)[:, None, None, None]
    colors = (seen[:, :3] / alpha.clamp(min=1e-3)).clamp(0.0, 1.0) ** gamma
    colors = _weathered(colors, props.materials, dice)
    pale = dice.chance(0.12)[:, None, None, None]  # white things on white
    grey = colors.mean(1, keepdim=True)
    colors = torch.where(pale, 0.8 + 0.2 * grey, colors)
    behind = bystanders(behind, colors, alpha, dice) * (1.0 - low * strength)
    return colors * alpha + behind * (1.0 - alpha), alpha


def _placed(dice: Dice) -> Tensor:
    """(N, 2, 3): from the picture to the render."""
    angle = dice.normal() * 0.15 * dice.chance(0.5)
    share = torch.where(dice.chance(0.5), dice.uniform(0.45, 1.0), 0.95)
    cut = dice.chance(CUT)
    share = torch.where(cut, dice.uniform(1.05, 1.8), share)
    mirror = torch.where(dice.chance(0.5), 1.0, -1.0)
    theta = torch.zeros(dice.count, 2, 3, device=dice.device)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() / share * mirror, -angle.sin() / share
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() / share * mirror, angle.cos() / share
    theta[:, :, 2] = dice.uniform(-1.0, 1.0, 2) * (1.0 / share - 1.0)[:, None] * 0.8
    below = 1.0 / share - 1.0 - dice.uniform(0.0, 0.25) / share
    theta[:, 1, 2] = torch.where(cut, below, theta[:, 1, 2])
    return theta


def _weathered(colors: Tensor, materials: Tensor, dice: Dice) -> Tensor:
    """Some with a material's grain, some lit from one side."""
    size = colors.shape[-1]
    theta = torch.zeros(dice.count, 2, 3, device=dice.device)
    side = dice.uniform(0.3, 1.2)
    theta[:, 0, 0], theta[:, 1, 1] = side, side
    theta[:, :, 2] = dice.uniform(-0.5, 0.5, 2)
    chosen = materials[dice.whole(0, len(materials) - 1)]
    grid = functional.affine_grid(theta, [dice.count, 3, size, size], align_corners=False)
    grain = functional.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False)
    grain = grain.mean(1, keepdim=True)
    grain = grain / grain.mean((1, 2, 3), keepdim=True).clamp(min=0.05)
    some = dice.chance(0.3)[:, None, None, None]
    colors = torch.where(
        some, colors * (1.0 + (grain - 1.0) * dice.uniform(0.3, 1.0, 1, 1, 1)), colors
    )
    steps = torch.linspace(-1.0, 1.0, size, device=dice.device)
    across, down = dice.normal(1, 1, 1) * 0.35, dice.normal(1, 1, 1) * 0.25
    light = torch.exp(across * steps[None, None, None, :] + down * steps[None, None, :, None])
    lit = dice.chance(0.35)[:, None, None, None]
    return torch.where(lit, colors * light, colors).clamp(0.0, 1.0)
