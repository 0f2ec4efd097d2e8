"""The network itself: a plain torch module of 7.7 M parameters, at half the picture's resolution.

A U-Net: 3x3 convolutions at 1/2, 1/4 and 1/8 of the picture, five transformer blocks at 1/16, and
back up with skip connections. At 1/2 the picture's own pixels are mixed in once more, four to a
place, and what needs the full resolution is unfolded from there. Everything is seen relative to
the picture's size, so the network expects `SIDE` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.models.sketch_net import SIDE
from stages.models.sketch_net.bins import BINS

WIDTHS = (48, 96, 160)
DEPTHS = (2, 2, 3)
TOKEN = 256
BLOCKS = 5
HEADS = 8
FINE = 48
PAINT = 32
BEHIND = 48
GLANCES = 4
"""Ways in which the view head pools the tokens."""


@dataclass(frozen=True)
class Estimates:
    """What the network says of N pictures of S x S pixels. Lengths in half widths of the picture.

    alpha      (N, 1, S, S) logits of the foreground
    front      (N, 1, S, S) depth of the front, towards the camera, from the object's middle
    spread     (N, 1, S, S) logarithm of the error that `front` is expected to have
    normal     (N, 3, S, S) unit normals of the front, camera axes: x right, y up, z to the camera
    thickness  (N, BINS, S/2, S/2) logits over `thickness_bins`: from the front to the last surface
               behind it, along the optical axis
    albedo     (N, 3, S, S) sRGB of the object's paint, about [0, 1]: no shading, no highlights
    behind_normal, behind_albedo  (N, 3, S/2, S/2) the same of the last surface on each ray
    elevation  (N,) of the camera above the object's ground, radians
    elevation_spread  (N,) logarithm of the error that `elevation` is expected to have, radians
    mirror     (N, 6) of the plane that mirrors the object: n n^T for its unit normal n in camera
               axes, as xx, yy, zz, xy, xz, yz; shrunk where the network doubts
    symmetric  (N,) logits that the object has such a plane and that `mirror` is it, within 10
               degrees
    """

    alpha: Tensor
    front: Tensor
    spread: Tensor
    normal: Tensor
    thickness: Tensor
    albedo: Tensor
    behind_normal: Tensor
    behind_albedo: Tensor
    elevation: Tensor
    elevation_spread: Tensor
    mirror: Tensor
    symmetric: Tensor


class Convolutions(nn.Module):
    """Two 3x3 convolutions beside a straight path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        inside = functional.relu(self.first_norm(self.first(x)), inplace=True)
        return functional.relu(x + self.second_norm(self.second(inside)))


class Attention(nn.Module):
    """A transformer block over the tokens of the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        mixed = self.mix(self.before(x)).reshape(count, tokens, 3, HEADS, width // HEADS)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(seen.transpose(1, 2).reshape(count, tokens, width))
        return x + self.down(functional.gelu(self.up(self.between(x))))


class ViewHead(nn.Module):
    """Tokens (N, T, TOKEN) -> (N, 9): elevation, mirror (6), symmetric, elevation_spread; see
    `Estimates`."""

    def __init__(self) -> None:
        super().__init__()
        self.glance = nn.Linear(TOKEN, GLANCES)
        self.first = nn.Linear(GLANCES * TOKEN, 128)
        self.second = nn.Linear(128, 8)
        self.doubt = nn.Linear(128, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        shares = torch.softmax(self.glance(tokens), dim=1)
        pooled = torch.einsum("ntg,ntc->ngc", shares, tokens).flatten(1)
        thought = functional.gelu(self.first(pooled))
        return torch.cat([self.second(thought), self.doubt(thought)], 1)


class SketchNet(nn.Module):
    """(N, 3, 256, 256) sRGB in [0, 1] -> `Estimates`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(12, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
        )
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        widths = (*WIDTHS, TOKEN)
        for width, depth, below in zip(WIDTHS, DEPTHS, widths[1:], strict=True):
            self.down.append(nn.Sequential(*(Convolutions(width) for _ in range(depth))))
            self.shrink.append(nn.Conv2d(width, below, 2, stride=2))
        side = SIDE // 16
        self.places = nn.Parameter(torch.randn(1, side * side, TOKEN) * 0.02)
        self.tokens = nn.Sequential(*(Attention(TOKEN) for _ in range(BLOCKS)))
        self.last = nn.LayerNorm(TOKEN)
        self.grow = nn.ModuleList()
        self.up = nn.ModuleList()
        for width, below in zip(reversed(WIDTHS), reversed(widths[1:]), strict=True):
            self.grow.append(nn.Conv2d(below, width, 1))
            self.up.append(nn.Sequential(*(Convolutions(width) for _ in range(2))))
        self.thickness = nn.Conv2d(WIDTHS[0], BINS, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(WIDTHS[0] + 12, FINE, 3, padding=1), nn.ReLU(),
            nn.Conv2d(FINE, 4 * 6, 3, padding=1),
        )  # fmt: skip
        self.paint = nn.Sequential(
            nn.Conv2d(WIDTHS[0] + 12, PAINT, 3, padding=1), nn.ReLU(),
            nn.Conv2d(PAINT, 4 * 3, 3, padding=1),
        )  # fmt: skip
        self.behind = nn.Sequential(
            nn.Conv2d(WIDTHS[0] + 12, BEHIND, 3, padding=1), nn.ReLU(),
            nn.Conv2d(BEHIND, 6, 3, padding=1),
        )  # fmt: skip
        self.view = ViewHead()

    def forward(self, pictures: Tensor) -> Estimates:
        picture = functional.pixel_unshuffle(pictures * 2.0 - 1.0, 2)
        x = self.stem(picture)
        kept = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = blocks(x)
            kept.append(x)
            x = shrink(x)
        count, width, height, breadth = x.shape
        tokens = self.last(self.tokens(x.flatten(2).transpose(1, 2) + self.places))
        x = tokens.transpose(1, 2).reshape(count, width, height, breadth)
        for grow, blocks, skip in zip(self.grow, self.up, reversed(kept), strict=True):
            bigger = functional.interpolate(grow(x), scale_factor=2.0, mode="bilinear")
            x = blocks(bigger + skip)
        both = torch.cat([x, picture.to(x.dtype)], 1)
        out = functional.pixel_shuffle(self.fine(both).float(), 2)
        paint = functional.pixel_shuffle(self.paint(both).float(), 2)
        behind = self.behind(both).float()
        coarse = functional.avg_pool2d(pictures, 2)
        view = self.view(tokens).float()
        towards = torch.tensor([0.0, 0.0, 0.1], device=out.device)[None, :, None, None]
        return Estimates(
            alpha=out[:, :1],
            front=out[:, 1:2],
            spread=out[:, 2:3].clamp(-6.0, 2.0),
            normal=functional.normalize(out[:, 3:6] + towards, dim=1, eps=1e-6),
            thickness=self.thickness(x).float(),
            albedo=pictures + paint,
            behind_normal=functional.normalize(behind[:, :3] - towards, dim=1, eps=1e-6),
            behind_albedo=coarse + behind[:, 3:],
            elevation=view[:, 0],
            elevation_spread=view[:, 8].clamp(-5.0, 1.0),
            mirror=view[:, 1:7],
            symmetric=view[:, 7],
        )
