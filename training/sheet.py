"""Pictures of what the network sees and says, to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from stages.models.sketch_net.bins import thickness_bins
from stages.models.sketch_net.network import Estimates
from training.batches import Batch


@torch.no_grad()
def draw(net: nn.Module, batch: Batch, rows: int, path: Path) -> None:
    """Held-back scenes, one a row: picture, then alpha, front depth, normals, thickness, paint, and
    normals and paint of the last surface, of the truth and as estimated in turns; then held-back
    renders, with what is estimated alone."""
    net.eval()
    made = net(batch.picture)
    net.train()
    count = len(batch.scenes.mask)
    strips = []
    for index in range(min(rows, count)):
        scenes = batch.scenes
        mask = scenes.mask[index].float()
        told = estimates(made, index, mask)
        true = [
            _grey(batch.alpha[index]),
            _grey(scenes.front[index].float() * 0.5 + 0.5) * mask,
            (scenes.normal[index].float() * 0.5 + 0.5) * mask,
            _grey(scenes.thickness[index].float() * 0.6) * mask,
            batch.paint[index] * mask,
            (_big(scenes.behind[index, :3]) * 0.5 + 0.5) * mask,
            _big(batch.behind[index]) * mask,
        ]
        pairs = [panel for pair in zip(true, told, strict=True) for panel in pair]
        strips.append(torch.cat([batch.picture[index], *pairs], dim=2))
    for index in range(count, min(count + rows, len(batch.picture)), 2):
        pair = []
        for at in (index, index + 1):
            if at < len(batch.picture):
                mask = (made.alpha[at] > 0.0).float()
                pair += [batch.picture[at], *estimates(made, at, mask)[:4]]
        strips.append(torch.cat(pair, dim=2))
    width = strips[0].shape[2]
    strips = [torch.nn.functional.pad(s, (0, width - s.shape[2])) for s in strips]
    save(torch.cat(strips, dim=1), path)


def estimates(made: Estimates, index: int, mask: Tensor) -> list[Tensor]:
    """Seven (3, S, S) pictures: alpha, front depth, normals, thickness, paint, normals and paint of
    the last surface; black outside of `mask`."""
    likely = torch.softmax(made.thickness[index : index + 1], dim=1)
    bins = torch.from_numpy(thickness_bins()).to(likely.device)[None, :, None, None]
    expected = (likely * bins).sum(1, keepdim=True)
    size = made.alpha.shape[-1]
    expected = torch.nn.functional.interpolate(expected, size=size, mode="bilinear")[0]
    return [
        _grey(torch.sigmoid(made.alpha[index])),
        _grey(made.front[index] * 0.5 + 0.5) * mask,
        (made.normal[index] * 0.5 + 0.5) * mask,
        _grey(expected * 0.6) * mask,
        made.albedo[index] * mask,
        (_big(made.behind_normal[index]) * 0.5 + 0.5) * mask,
        _big(made.behind_albedo[index]) * mask,
    ]


def save(picture: Tensor, path: Path) -> None:
    """(3, H, W) in [0, 1] as half-size JPEG."""
    pixels = (picture.clamp(0.0, 1.0) * 255.0).byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX).save(path, quality=88)


def _big(values: Tensor) -> Tensor:
    """(3, S/2, S/2) -> (3, S, S)."""
    return torch.nn.functional.interpolate(values[None].float(), scale_factor=2.0)[0]


def _grey(values: Tensor) -> Tensor:
    return values.expand(3, -1, -1)
