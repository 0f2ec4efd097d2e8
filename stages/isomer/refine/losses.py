"""The terms that the reference's ISOMER minimises. Pictures are (K, S, S, 4), coverage last."""

from __future__ import annotations

import torch
from torch import Tensor

OUTSIDE = 0.5


def picture_loss(image: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference, over the pixels that the mesh covers and all channels of `target`.

    target has 4 channels, or 3 to leave coverage out.
    """
    rows = torch.nonzero(image.detach()[..., 3].reshape(-1) > OUTSIDE)[:, 0]
    channels = target.shape[-1]
    ours = image.reshape(-1, 4).index_select(0, rows)[:, :channels]
    wanted = target.reshape(-1, channels).index_select(0, rows)
    return (ours - wanted).square().mean()


def background_loss(image: Tensor, target_alpha: Tensor) -> Tensor:
    """Mean squared coverage error over the pixels outside the target's silhouette.

    target_alpha (K, S, S). Nothing asks for uncovered pixels inside of it.
    """
    rows = torch.nonzero(target_alpha.reshape(-1) < OUTSIDE)[:, 0]
    ours = image[..., 3].reshape(-1).index_select(0, rows)
    return (ours - target_alpha.reshape(-1).index_select(0, rows)).square().mean()


def expansion_loss(vertices: Tensor, normals: Tensor) -> Tensor:
    """A push outwards: half the mean squared distance to where the vertex plus its normal is."""
    return 0.5 * ((vertices + normals).detach() - vertices).square().mean()


def coverage_loss(image: Tensor, target_alpha: Tensor) -> Tensor:
    """Mean squared coverage error, over all pixels but in units of `background_loss`.

    target_alpha (K, S, S). Unlike there, an uncovered pixel of the silhouette counts as much as a
    covered one outside of it, so the outline settles in the middle.
    """
    outside = (target_alpha < OUTSIDE).sum()
    return (image[..., 3] - target_alpha).square().sum() / outside
