"""What the network sees in one step, with the truth: traced scenes and composed renders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.degrade import degrade, soft_edges
from training.families import objects
from training.grounds import ground
from training.parts import Dice
from training.pictures import Pictures
from training.scenes import Scenes, look_at
from training.shading import shade

STOCK = 2048
"""Objects thought up at once: it takes a few thousand small steps, however many they are."""


@dataclass
class Batch:
    """The first `len(scenes.mask)` pictures are of scenes; of the others only alpha is known.

    picture (N, 3, S, S) in [0, 1]; alpha (N, 1, S, S) in [0, 1]; weight (N,) 0 for bad scenes.
    """

    picture: Tensor
    alpha: Tensor
    weight: Tensor
    scenes: Scenes


class Source:
    """Makes batches without end from one seed. Scenes are traced once and seen several times, each
    time with other materials and grounds: `pool` scenes are kept, the oldest are replaced."""

    def __init__(
        self, pictures: Pictures, size: int, pool: int, seed: int, device: torch.device
    ) -> None:
        self.size = size
        self.generator = torch.Generator(device).manual_seed(seed)
        self.outlines = pictures.outlines().to(device)
        self.renders = pictures.renders.to(device)
        self.materials = pictures.materials.to(device).float() / 255.0
        self.stock, self.used = torch.empty(0), STOCK
        self.pool = self.fresh(min(pool, 64))
        every = torch.arange(pool, device=device) % len(self.pool.mask)
        self.pool = self.pool.take(every)
        self.filled, self.next = min(pool, 64), 0

    def batch(self, scenes: int, renders: int, fresh: int) -> Batch:
        """`scenes` from the pool, after `fresh` of it have been made anew, and `renders`."""
        made = self.fresh(fresh)
        capacity = len(self.pool.mask)
        first = min(fresh, capacity - self.next)
        rows = torch.arange(fresh, device=self.outlines.device)
        self.pool.put(self.next, made.take(rows[:first]))
        if first < fresh:
            self.pool.put(0, made.take(rows[first:]))
        self.filled = min(max(self.filled, self.next + fresh), capacity)
        self.next = (self.next + fresh) % capacity
        size = (scenes,)
        chosen = torch.randint(
            0, self.filled, size, generator=self.generator, device=self.outlines.device
        )
        return self.compose(self.pool.take(chosen), renders)

    def fresh(self, count: int) -> Scenes:
        """`count` (at most `STOCK`) new objects under new cameras, large fields as float16."""
        if self.used + count > STOCK:
            self.stock = objects(STOCK, self.generator, len(self.outlines))
            self.used = 0
        parts = self.stock[self.used : self.used + count].contiguous()
        self.used += count
        scenes = look_at(parts, self.size, self.outlines, self.generator)
        for name in ("front", "back", "normal", "place", "shade"):
            setattr(scenes, name, getattr(scenes, name).half())
        return scenes

    def compose(self, scenes: Scenes, renders: int) -> Batch:
        """Paint scenes, put renders on grounds, and spoil both a little."""
        dice = Dice(len(scenes.mask), self.generator)
        colors = shade(scenes, self.materials, self.generator)
        alpha, colors = soft_edges(scenes.mask, colors)
        count = len(scenes.mask)
        behind = ground(
            scenes.place, count, self.size, self.materials, self.renders, self.generator
        )
        cast = scenes.shade[:, :1] * scenes.shade[:, 1:]
        strength = (
            dice.uniform(0.15, 0.75, 1, 1, 1) * dice.chance(0.55).float()[:, None, None, None]
        )
        behind = behind * (1.0 - strength * (1.0 - cast.float()))
        picture = colors * alpha + behind * (1.0 - alpha)
        weight = scenes.good.float()
        if renders:
            composed, cover = self._composed(renders)
            picture, alpha = torch.cat([picture, composed]), torch.cat([alpha, cover])
            weight = torch.cat([weight, torch.ones(renders, device=weight.device)])
        return Batch(degrade(picture, self.generator), alpha, weight, scenes)

    def _composed(self, count: int) -> tuple[Tensor, Tensor]:
        """Renders with alpha, turned and scaled a little, on grounds with a soft shadow."""
        dice = Dice(count, self.generator)
        chosen = self.renders[dice.whole(0, len(self.renders) - 1)].float() / 255.0
        chosen[:, :3] *= chosen[:, 3:]
        angle = dice.normal() * 0.15 * dice.chance(0.5)
        share = torch.where(dice.chance(0.5), dice.uniform(0.45, 1.0), 0.95)
        mirror = torch.where(dice.chance(0.5), 1.0, -1.0)
        theta = torch.zeros(count, 2, 3, device=dice.device)
        theta[:, 0, 0], theta[:, 0, 1] = angle.cos() / share * mirror, -angle.sin() / share
        theta[:, 1, 0], theta[:, 1, 1] = angle.sin() / share * mirror, angle.cos() / share
        theta[:, :, 2] = dice.uniform(-1.0, 1.0, 2) * (1.0 / share - 1.0)[:, None] * 0.8
        grid = functional.affine_grid(theta, [count, 4, self.size, self.size], align_corners=False)
        seen = functional.grid_sample(chosen, grid, align_corners=False)
        alpha = seen[:, 3:]
        behind = ground(None, count, self.size, self.materials, self.renders, self.generator)
        low = functional.avg_pool2d(alpha, 17, 1, 8).roll((8, 4), (2, 3))
        strength = dice.uniform(0.0, 0.6, 1, 1, 1) * dice.chance(0.4).float()[:, None, None, None]
        behind = behind * (1.0 - low * strength)
        gamma = torch.where(dice.chance(0.4), dice.uniform(0.7, 1.4), 1.0)[:, None, None, None]
        colors = (seen[:, :3] / alpha.clamp(min=1e-3)).clamp(0.0, 1.0) ** gamma
        pale = dice.chance(0.12)[:, None, None, None]  # white things on white
        grey = colors.mean(1, keepdim=True)
        colors = torch.where(pale, 0.8 + 0.2 * grey, colors)
        return colors * alpha + behind * (1.0 - alpha), alpha
