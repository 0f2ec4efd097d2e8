"""Triplanes -> values at points: five small MLPs read the features that three planes have there.

Everything here is float32: a signed distance decides by its sign, and the MLPs are cheap. Nothing
here knows of grids or chunks; memory grows with the number of points that are asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CORNERS = 8
WEIGHTS = 21
"""FlexiCubes weights of a cube: 12 edges, 8 corners, 1 for the split of its quads."""
WEIGHT_SCALE = 0.1
HIDDEN = 64
MIN_ROUGHNESS = 0.0016
PLANE_AXES = ((0, 1), (0, 2), (2, 1))
"""Coordinates of frame T that run along each plane's width and height: (x, y), (x, z), (z, y)."""


def sample_planes(planes: Tensor, points: Tensor) -> Tensor:
    """Features at points, bilinear, zero outside of [-1, 1].

    planes (3, C, H, W), points (N, 3) in frame T. Returns (N, 3 * C), one plane after another.
    """
    grids = torch.stack([points[:, list(axes)] for axes in PLANE_AXES]).unsqueeze(1)
    sampled = functional.grid_sample(
        planes, grids, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.squeeze(2).permute(2, 0, 1).flatten(1)


class Synthesizer(nn.Module):
    """Holds the MLPs under the name that they have in the checkpoint."""

    def __init__(self, plane_dim: int) -> None:
        super().__init__()
        self.decoder = Decoder(3 * plane_dim)


class Decoder(nn.Module):
    """The MLPs. Features are those of `sample_planes`, (N, D) float32."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.net_sdf = _mlp(features, 1)
        self.net_rgb = _mlp(features, 3)
        self.net_material = _mlp(features, 2)
        self.net_deformation = _mlp(features, 3)
        self.net_weight = _mlp(CORNERS * features, WEIGHTS)

    def sdf(self, features: Tensor) -> Tensor:
        """(N,) signed distance, negative inside."""
        return self.net_sdf(features).squeeze(-1)

    def deformation(self, features: Tensor, resolution: int) -> Tensor:
        """(N, 3) shift of grid vertices in frame T, at most 1 / (4 * resolution) along an axis."""
        return torch.tanh(self.net_deformation(features)) / (4.0 * resolution)

    def cube_weights(self, features: Tensor) -> Tensor:
        """(M, 8, D) features at cubes' corners -> (M, 21) raw FlexiCubes weights.

        Corners are ordered x fastest, z slowest.
        """
        return self.net_weight(features.flatten(1)) * WEIGHT_SCALE

    def rgb(self, features: Tensor) -> Tensor:
        """(N, 3) colours in [-0.001, 1.001]; written as sRGB, used as albedo where light falls."""
        return torch.sigmoid(self.net_rgb(features)) * 1.002 - 0.001

    def material(self, features: Tensor) -> Tensor:
        """(N, 2) metallic in [0, 1] and roughness in [0.0016, 1]."""
        metallic, roughness = torch.sigmoid(self.net_material(features)).unbind(-1)
        return torch.stack([metallic, roughness * (1.0 - MIN_ROUGHNESS) + MIN_ROUGHNESS], dim=-1)


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, HIDDEN, HIDDEN):
        layers += [nn.Linear(width, HIDDEN), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, outputs))
