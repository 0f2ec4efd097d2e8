"""What the network is taught by. Sums over heads, means over pixels of the objects."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from stages.models.sketch_net.bins import thickness_bins
from stages.models.sketch_net.network import Estimates
from training.batches import Batch
from training.scenes import Scenes

WEIGHTS = {
    "alpha": 2.0, "front": 2.0, "edges": 4.0, "spread": 0.2, "normal": 1.5, "thickness": 0.6,
    "paint": 1.5, "behind": 1.0, "behind_paint": 1.2, "elevation": 0.7,
    "elevation_spread": 0.1, "mirror": 0.3, "symmetric": 0.1,
}  # fmt: skip
"""Of the terms in the sum."""
NEAR = math.cos(math.radians(10.0))
"""Cosine to a mirror plane's normal from which an estimate of it counts as right."""
ASTRAY = 0.7
"""Radians: the error that an elevation counts as where the picture is not upright."""


def losses(made: Estimates, batch: Batch) -> dict[str, Tensor]:
    """Every term by its name in `WEIGHTS`, unweighted.

    alpha      cross entropy
    front      mean absolute error
    edges      mean absolute error of the front's differences over 1, 2 and 4 pixels: steps stay
    spread     how badly `spread` tells the size of the front's error (a Laplace likelihood)
    normal     1 - cosine
    thickness  cross entropy to the two bins round the truth
    paint      mean absolute error
    behind     1 - cosine of the last surface's normals
    behind_paint  mean absolute error of its paint
    elevation  mean absolute error where the picture is upright, radians
    elevation_spread  likewise to `spread`, and `ASTRAY` where it is not
    mirror     squared error of n n^T to the nearest of the object's mirror planes, if it has any
    symmetric  cross entropy to whether the object has such a plane and `mirror` is right
    """
    scenes = batch.scenes
    count = len(scenes.mask)
    entropy = functional.binary_cross_entropy_with_logits(made.alpha, batch.alpha, reduction="none")
    alpha = (entropy.mean((1, 2, 3)) * batch.weight).mean()
    there = scenes.mask.float() * batch.weight[:count, None, None, None]
    total = there.sum().clamp(min=1.0)
    front, truth = made.front[:count], scenes.front.float()
    error = (front - truth).abs()
    spread = made.spread[:count]
    likelihood = error.detach() * torch.exp(-spread) + spread
    cosine = (made.normal[:count] * scenes.normal.float()).sum(1, keepdim=True)
    return {
        "alpha": alpha,
        "front": (error * there).sum() / total,
        "edges": _edges(front - truth, there) / total,
        "spread": (likelihood * there).sum() / total,
        "normal": ((1.0 - cosine) * there).sum() / total,
        "thickness": _thickness(made.thickness[:count], scenes.thickness.float(), there),
        "paint": ((made.albedo[:count] - batch.paint).abs() * there).sum() / (3.0 * total),
        **_behind(made, batch, there[..., ::2, ::2]),
        **_view(made, batch.weight[:count], scenes),
    }


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([terms[name] * weight for name, weight in WEIGHTS.items()]).sum()


def _behind(made: Estimates, batch: Batch, there: Tensor) -> dict[str, Tensor]:
    """Terms of the last surface, at half the resolution."""
    count = len(there)
    total = there.sum().clamp(min=1.0)
    truth = batch.scenes.behind[:, :3].float()
    cosine = (made.behind_normal[:count] * truth).sum(1, keepdim=True)
    error = (made.behind_albedo[:count] - batch.behind).abs()
    return {
        "behind": ((1.0 - cosine) * there).sum() / total,
        "behind_paint": (error * there).sum() / (3.0 * total),
    }


def _view(made: Estimates, weight: Tensor, scenes: Scenes) -> dict[str, Tensor]:
    """Terms of what is said of the whole picture."""
    count = len(weight)
    whole = weight.sum().clamp(min=1.0)
    error = (made.elevation[:count] - scenes.rise).abs()
    upright = weight * scenes.upright.float()
    rise = (error * upright).sum() / upright.sum().clamp(min=1.0)
    doubt = made.elevation_spread[:count]
    off = torch.where(scenes.upright, error.detach(), ASTRAY)
    likelihood = off * torch.exp(-doubt) + doubt
    normals = scenes.mirrors
    there = normals.abs().sum(2) > 0.5
    truth = packed(normals[..., :, None] * normals[..., None, :])
    scale = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], device=truth.device)
    error = ((made.mirror[:count, None] - truth).square() * scale).sum(2)
    nearest = torch.where(there, error, torch.inf).amin(1)
    usable = weight * there.any(1).float()
    error = torch.where(there.any(1), nearest, 0.0) * usable
    right = (mirror_cosine(made.mirror[:count], normals) > NEAR).float()
    sure = functional.binary_cross_entropy_with_logits(
        made.symmetric[:count], right, reduction="none"
    )
    return {
        "elevation": rise,
        "elevation_spread": (likelihood * weight).sum() / whole,
        "mirror": error.sum() / usable.sum().clamp(min=1.0),
        "symmetric": (sure * weight).sum() / whole,
    }


def packed(matrices: Tensor) -> Tensor:
    """(..., 3, 3) symmetric -> (..., 6): xx, yy, zz, xy, xz, yz."""
    places = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    return torch.stack([matrices[..., row, column] for row, column in places], -1)


@torch.no_grad()
def mirror_cosine(entries: Tensor, normals: Tensor) -> Tensor:
    """(N,) absolute cosines between the main axes of `Estimates.mirror` (N, 6) and the nearest of
    the normals (N, K, 3); 0 where all of those are 0. By repeated squaring of the matrices."""
    xx, yy, zz, xy, xz, yz = entries.float().unbind(1)
    matrix = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1).reshape(-1, 3, 3)
    matrix = matrix + torch.eye(3, device=matrix.device) * 0.5  # the largest, not the most negative
    for _ in range(5):
        matrix = matrix @ matrix
        matrix = matrix / matrix.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)
    column = torch.diagonal(matrix, dim1=1, dim2=2).argmax(1)
    axis = matrix[torch.arange(len(matrix), device=matrix.device), :, column]
    axis = functional.normalize(axis, dim=1)
    return torch.einsum("nkc,nc->nk", normals, axis).abs().amax(1)


def _edges(error: Tensor, there: Tensor) -> Tensor:
    made = torch.zeros((), device=error.device)
    for step in (1, 2, 4):
        across = (
            (error[..., step:] - error[..., :-step]).abs() * there[..., step:] * there[..., :-step]
        )
        down = (error[..., step:, :] - error[..., :-step, :]).abs()
        down = down * there[..., step:, :] * there[..., :-step, :]
        made = made + (across.sum() + down.sum()) / step
    return made / 3.0


def _thickness(logits: Tensor, truth: Tensor, there: Tensor) -> Tensor:
    """Every second pixel of the truth, which is what the logits' resolution is."""
    truth, there = truth[:, 0, ::2, ::2].contiguous(), there[:, 0, ::2, ::2]
    bins = torch.from_numpy(thickness_bins()).to(truth.device)
    upper = torch.bucketize(truth, bins).clamp(1, len(bins) - 1)
    share = ((truth - bins[upper - 1]) / (bins[upper] - bins[upper - 1])).clamp(0.0, 1.0)
    likely = functional.log_softmax(logits, dim=1)
    above = likely.gather(1, upper[:, None])[:, 0]
    below = likely.gather(1, upper[:, None] - 1)[:, 0]
    entropy = -(above * share + below * (1.0 - share))
    return (entropy * there).sum() / there.sum().clamp(min=1.0)
