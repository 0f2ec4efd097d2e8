"""How good the network is on scenes and renders that it has never been trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from stages.models.sketch_net.bins import thickness_bins
from training.batches import Batch, Source
from training.losses import NEAR, losses, mirror_cosine

SURE = 5.0
"""Degrees."""


@dataclass
class Held:
    """Batches of held-back scenes and renders, made once from a seed of their own."""

    batches: list[Batch]


def held_back(source: Source, batches: int, scenes: int, renders: int) -> Held:
    """`source`: of held-back renders, with a seed that training does not use."""
    made = []
    for _ in range(batches):
        made.append(source.compose(source.fresh(scenes), renders))
    return Held(made)


@torch.no_grad()
def validate(net: nn.Module, held: Held) -> dict[str, float]:
    """Means over the batches: the losses, and

    iou_scenes, iou_renders, iou_drawings  of alpha at one half
    front_error              median absolute error of the front
    thickness_error          mean absolute error of the expected thickness
    angle                    median angle between normals, degrees
    paint_error              median absolute error of the albedo
    behind_angle             median angle between normals of the last surfaces, degrees
    behind_paint_error       median absolute error of their albedo
    rise_error               median absolute error of the elevation of upright pictures, degrees
    rise_sure, rise_sure_error  share of all pictures whose elevation is expected to be right within
                             `SURE`, and the 90th percentile of the error among them (90 where the
                             picture is not upright)
    mirror_right             share of the symmetric objects whose mirror plane is right
    """
    net.eval()
    sums: dict[str, float] = {}
    for batch in held.batches:
        made = net(batch.picture)
        count = len(batch.scenes.mask)
        rows = {name: float(value) for name, value in losses(made, batch).items()}
        seen, truth = made.alpha > 0.0, batch.alpha > 0.5
        shares = (seen & truth).sum((1, 2, 3)) / (seen | truth).sum((1, 2, 3)).clamp(min=1)
        usable = batch.weight[:count] > 0.5
        rows["iou_scenes"] = float(shares[:count][usable].mean())
        others = shares[count:]
        first = len(others) - len(others) // 2
        rows["iou_renders"] = float(others[:first].mean())
        rows["iou_drawings"] = float(others[first:].mean())
        there = batch.scenes.mask & usable[:, None, None, None]
        rows["front_error"] = float((made.front[:count] - batch.scenes.front)[there].abs().median())
        cosine = (made.normal[:count] * batch.scenes.normal).sum(1, keepdim=True).clamp(-1.0, 1.0)
        rows["angle"] = float(torch.rad2deg(torch.acos(cosine[there])).median())
        likely = torch.softmax(made.thickness[:count], dim=1)
        expected = (
            likely * torch.from_numpy(thickness_bins()).to(likely.device)[None, :, None, None]
        ).sum(1, keepdim=True)
        error = (expected - batch.scenes.thickness[..., ::2, ::2]).abs()
        rows["thickness_error"] = float(error[there[..., ::2, ::2]].mean())
        paint = (made.albedo[:count] - batch.paint).abs().mean(1, keepdim=True)
        rows["paint_error"] = float(paint[there].median())
        half = there[..., ::2, ::2]
        cosine = (made.behind_normal[:count] * batch.scenes.behind[:, :3]).sum(1, keepdim=True)
        rows["behind_angle"] = float(
            torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0)[half])).median()
        )
        paint = (made.behind_albedo[:count] - batch.behind).abs().mean(1, keepdim=True)
        rows["behind_paint_error"] = float(paint[half].median())
        rise = torch.rad2deg((made.elevation[:count] - batch.scenes.rise).abs())
        rise = torch.where(batch.scenes.upright, rise, 90.0)
        rows["rise_error"] = float(rise[usable & batch.scenes.upright].median())
        sure = usable & (torch.rad2deg(made.elevation_spread[:count].exp()) < SURE)
        rows["rise_sure"] = float(sure.sum() / usable.sum().clamp(min=1))
        rows["rise_sure_error"] = float(rise[sure].quantile(0.9)) if sure.any() else 90.0
        symmetric = usable & (batch.scenes.mirrors.abs().sum((1, 2)) > 0.5)
        found = mirror_cosine(made.mirror[:count], batch.scenes.mirrors) > NEAR
        rows["mirror_right"] = float(found[symmetric].float().mean())
        for name, value in rows.items():
            sums[name] = sums.get(name, 0.0) + value / len(held.batches)
    net.train()
    return sums
