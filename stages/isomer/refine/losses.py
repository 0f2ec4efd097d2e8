"""The terms that the reference's ISOMER minimises.

Pictures are given by the pixels of a region, (A, 4), coverage last; beyond it they are 0. What no
vertex can change there is left out of the sums.
"""

from __future__ import annotations

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


def coverage_loss(image: Tensor, region: Region, target_alpha: Tensor) -> Tensor:
    """Mean squared coverage error, over all pixels but in units of `background_loss`.

    target_alpha (K, S, S). Unlike there, an uncovered pixel of the silhouette counts as much as a
    covered one outside of it, so the outline settles in the middle.
    """
    wanted = target_alpha.reshape(-1).index_select(0, region.pixels)
    outside = (target_alpha < OUTSIDE).sum()
    return (image[:, 3] - wanted).square().sum() / outside
