"""What the network's cut-out is worth: held-back renders on four kinds of grounds, beside GrabCut.

    python -m training.cutouts --pictures pictures.zip [--count 40]

Mean intersection over union with the true alpha, and the share of pictures below 0.9.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from orchestrator.system.text import format_table
from stages.models.sketch_net.network import SIDE
from stages.models.sketch_net.predict import load_network, sketch
from stages.preprocess.grabcut import grabcut
from training.degrade import degrade
from training.grounds import Props, clutter
from training.parts import Dice
from training.pictures import load

SEED = 7
SHARE = 0.85


def compositions(path: Path, count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pictures (N, 3, S, S) and alphas (N, 1, S, S) by the kind of ground."""
    pictures = load(path, held_back=True)
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(pictures.renders), generator=generator)[:count]
    renders = pictures.renders[chosen].float() / 255.0
    theta = torch.tensor([[[1 / SHARE, 0.0, 0.0], [0.0, 1 / SHARE, 0.0]]]).expand(count, -1, -1)
    grid = torch.nn.functional.affine_grid(theta, [count, 4, SIDE, SIDE], align_corners=False)
    seen = torch.nn.functional.grid_sample(
        torch.cat([renders[:, :3] * renders[:, 3:], renders[:, 3:]], 1), grid, align_corners=False
    )
    alpha = seen[:, 3:]
    colors = (seen[:, :3] / alpha.clamp(min=1e-3)).clamp(0.0, 1.0)
    pale = 0.82 + 0.18 * colors.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    white = torch.ones_like(colors)
    plain = torch.rand(count, 3, 1, 1, generator=generator).expand_as(colors)
    props = Props(
        pictures.materials.float() / 255.0, pictures.photographs.float() / 255.0, pictures.renders
    )
    busy = clutter(Dice(count, generator), SIDE, props)
    made = {"white": (colors, white), "pale on white": (pale, white)}
    made |= {"plain": (colors, plain), "materials and clutter": (colors, busy)}
    return {
        name: (degrade(top * alpha + below * (1.0 - alpha), generator), alpha)
        for name, (top, below) in made.items()
    }


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    given = parser.parse_args()
    net = load_network()
    table = []
    for name, (pictures, alphas) in compositions(given.pictures, given.count).items():
        found = []
        for picture, alpha in zip(pictures, alphas, strict=True):
            rgb = np.ascontiguousarray((picture * 255.0).round().byte().permute(1, 2, 0).numpy())
            truth = alpha[0].numpy() > 0.5
            told = sketch(net, rgb).alpha > 0.5
            found.append((overlap(told, truth), overlap(grabcut(rgb), truth)))
        scores = np.array(found)
        means, low = scores.mean(axis=0), (scores < 0.9).mean(axis=0)
        table.append((name, *(f"{v:.3f}" for v in means), *(f"{100 * v:.0f} %" for v in low)))
        print("  ".join(table[-1]), flush=True)
    header = ("ground", "network", "GrabCut", "network below 0.9", "GrabCut below 0.9")
    print(format_table(header, table))


if __name__ == "__main__":
    main()
