"""What the network's cut-out is worth: held-back renders on five kinds of grounds.

    python -m training.cutouts --pictures pictures.zip [--count 40]

Mean intersection over union with the true alpha and the share of pictures below 0.9, of the network
alone, of GrabCut alone, and of stage `preprocess` without and with the network; then how many
pictures the stage does not doubt, and their worst. The constants of stages/preprocess/guess.py and
shades.py were chosen by such composites.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from orchestrator.system.text import format_table
from stages.models.sketch_net import SIDE
from stages.models.sketch_net.predict import load_network, sketch
from stages.preprocess.grabcut import grabcut
from stages.preprocess.guessing import Guessing
from stages.preprocess.segment import Segmentation, segment
from training.degrade import degrade
from training.grounds import Props, clutter
from training.parts import Dice
from training.pictures import load

SEED = 7
SHARE = 0.85
PHOTOGRAPHS = ("chelsea", "astronaut", "coffee", "rocket")
"""Of skimage.data, as grounds: none is trained on."""


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
    made["photographs"] = (colors, photographs(count))
    return {
        name: (degrade(top * alpha + below * (1.0 - alpha), generator), alpha)
        for name, (top, below) in made.items()
    }


def photographs(count: int) -> Tensor:
    """(count, 3, S, S) in [0, 1], squares of `PHOTOGRAPHS`."""
    from skimage import data

    dice = np.random.default_rng(SEED)
    made = []
    for index in range(count):
        whole = getattr(data, PHOTOGRAPHS[index % len(PHOTOGRAPHS)])()
        side = int(min(whole.shape[:2]) * dice.uniform(0.4, 1.0))
        top, left = (int(dice.integers(0, size - side + 1)) for size in whole.shape[:2])
        part = cv2.resize(whole[top : top + side, left : left + side], (SIDE, SIDE))
        made.append(torch.from_numpy(part).permute(2, 0, 1) / 255.0)
    return torch.stack(made)


def in_place(found: Segmentation) -> np.ndarray:
    """Its mask on the whole square."""
    mask = np.zeros((SIDE, SIDE), np.float32)
    size = (int(found.region.width), int(found.region.height))
    mask[found.region.slices] = cv2.resize(found.mask.astype(np.float32), size)
    return mask > 0.5


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    given = parser.parse_args()
    net, guessing = load_network(), Guessing()
    guess, eye = guessing.guesser("auto"), guessing.eye("auto")
    table = []
    for name, (pictures, alphas) in compositions(given.pictures, given.count).items():
        found = []
        for picture, alpha in zip(pictures, alphas, strict=True):
            rgb = np.ascontiguousarray((picture * 255.0).round().byte().permute(1, 2, 0).numpy())
            truth = alpha[0].numpy() > 0.5
            stage = segment(rgb, guess=guess, eye=eye)
            masks = (
                sketch(net, rgb).alpha > 0.5,
                grabcut(rgb),
                in_place(segment(rgb)),
                in_place(stage),
            )
            found.append((*(overlap(mask, truth) for mask in masks), float(not stage.doubt)))
        scores = np.array(found)
        means, low = scores[:, :4].mean(axis=0), (scores[:, :4] < 0.9).mean(axis=0)
        sure = scores[:, 4] > 0
        cells = [
            f"{mean:.3f} ({100 * share:.0f} %)" for mean, share in zip(means, low, strict=True)
        ]
        worst = f"{scores[sure, 3].min():.3f}" if sure.any() else "-"
        table.append((name, *cells, f"{100 * sure.mean():.0f} %", worst))
        print("  ".join(table[-1]), flush=True)
    header = (
        "ground",
        "network",
        "GrabCut",
        "stage without",
        "stage",
        "not doubted",
        "their worst",
    )
    print(format_table(header, table))


if __name__ == "__main__":
    main()
