"""What the network is taught by. Sums over heads, means over pixels of the objects."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stages.models.sketch_net.network import Estimates, thickness_bins
from training.batches import Batch

WEIGHTS = {"alpha": 2.0, "front": 2.0, "edges": 4.0, "spread": 0.2, "normal": 1.5, "thickness": 0.6}
"""Of the terms in the sum."""


def losses(made: Estimates, batch: Batch) -> dict[str, Tensor]:
    """Every term by its name in `WEIGHTS`, unweighted.

    alpha      cross entropy
    front      mean absolute error
    edges      mean absolute error of the front's differences over 1, 2 and 4 pixels: steps stay
    spread     how badly `spread` tells the size of the front's error (a Laplace likelihood)
    normal     1 - cosine
    thickness  cross entropy to the two bins round the truth
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
    }


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([terms[name] * weight for name, weight in WEIGHTS.items()]).sum()


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
    bins = thickness_bins().to(truth.device)
    upper = torch.bucketize(truth, bins).clamp(1, len(bins) - 1)
    share = ((truth - bins[upper - 1]) / (bins[upper] - bins[upper - 1])).clamp(0.0, 1.0)
    likely = functional.log_softmax(logits, dim=1)
    above = likely.gather(1, upper[:, None])[:, 0]
    below = likely.gather(1, upper[:, None] - 1)[:, 0]
    entropy = -(above * share + below * (1.0 - share))
    return (entropy * there).sum() / there.sum().clamp(min=1.0)
