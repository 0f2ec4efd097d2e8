"""The terms that the reference's ISOMER minimises.

Pictures are given by the pixels of a region, (A, 4), coverage last; beyond it they are 0. What no
vertex can change there is left out of the sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stages.geometry.diffrender.views import Region

OUTSIDE = 0.5


def picture_loss(image: Tensor, region: Region, target: Tensor) -> Tensor:
    """Mean squared difference, over the pixels that the mesh covers and all channels of `target`.

    target (K, S, S, C) has 4 channels, or 3 to leave coverage out.
    """
    rows = torch.nonzero(image.detach()[:, 3] > OUTSIDE)[:, 0]
    channels = target.shape[-1]
    ours = image.index_select(0, rows)[:, :channels]
    wanted = target.reshape(-1, channels).index_select(0, region.pixels.index_select(0, rows))
    return (ours - wanted).square().mean()


def background_loss(image: Tensor, region: Region, target_alpha: Tensor) -> Tensor:
    """Mean squared coverage error over the pixels outside the target's silhouette.

    target_alpha (K, S, S). Nothing asks for uncovered pixels inside of it.
    """
    wanted = target_alpha.reshape(-1).index_select(0, region.pixels)
    error = torch.where(wanted < OUTSIDE, image[:, 3] - wanted, 0.0)
    return error.square().sum() / (target_alpha < OUTSIDE).sum()


def expansion_loss(vertices: Tensor, normals: Tensor) -> Tensor:
    """A push outwards: half the mean squared distance to where the vertex plus its normal is."""
    return 0.5 * ((vertices + normals).detach() - vertices).square().mean()


def coverage_loss(image: Tensor, region: Region, target_alpha: Tensor, outside: float) -> Tensor:
    """Mean squared coverage error, over all pixels but in units of `background_loss`.

    target_alpha (K, S, S), outside of whose silhouettes so many pixels lie. Unlike there, an
    uncovered pixel of the silhouette counts as much as a covered one outside of it, so the outline
    settles in the middle.
    """
    wanted = target_alpha.reshape(-1).index_select(0, region.pixels)
    return (image[:, 3] - wanted).square().sum() / outside


def pictures_loss(
    image: Tensor, region: Region, target: Tensor, target_alpha: Tensor, outside: float
) -> Tensor:
    """`picture_loss` and `coverage_loss` together: what objective improved asks of its pictures."""
    if image.device.type == "cpu":
        compared: Tensor = _Compared.apply(image, region, target, target_alpha, outside)
        return compared
    loss = picture_loss(image, region, target)
    return loss + coverage_loss(image, region, target_alpha, outside)


class _Compared(torch.autograd.Function):
    """`pictures_loss` in one pass over the pixels, which finds the gradient as well."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        region: Region,
        target: Tensor,
        target_alpha: Tensor,
        outside: float,
    ) -> Tensor:
        from stages.isomer.refine.kernels import compare

        slope = torch.empty_like(image)
        loss = compare(
            image.detach().contiguous().numpy(),
            region.pixels.numpy(),
            target.reshape(-1, target.shape[-1]).contiguous().numpy(),
            target_alpha.reshape(-1).numpy(),
            OUTSIDE,
            outside,
            slope.numpy(),
        )
        ctx.save_for_backward(slope)
        return image.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * given, None, None, None, None
