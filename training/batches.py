"""What the network sees in one step, with the truth: traced scenes and composed renders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.composed import composed_renders
from training.degrade import degrade, grade, soft_edges
from training.families import objects
from training.grounds import Props, bystanders, ground
from training.parts import Dice
from training.pictures import Pictures
from training.scenes import Scenes, look_at
from training.shading import shade

STOCK = 2048
"""Objects thought up at once: it takes a few thousand small steps, however many they are."""
SIMPLE = 2.0
"""Weight of a picture of one plain solid, whose shape has one right answer."""


@dataclass
class Batch:
    """The first `len(scenes.mask)` pictures are of scenes; of the others only alpha is known.

    picture (N, 3, S, S) in [0, 1]; alpha (N, 1, S, S) in [0, 1]; weight (N,): 0 for bad scenes,
    `SIMPLE` for single solids, else 1; paint (M, 3, S, S) in [0, 1] of the scenes; behind
    (M, 3, S/2, S/2) the same of their last surfaces.
    """

    picture: Tensor
    alpha: Tensor
    weight: Tensor
    scenes: Scenes
    paint: Tensor
    behind: Tensor


class Source:
    """Makes batches without end from one seed. Scenes are traced once and seen several times, each
    time with other materials and grounds: `pool` scenes are kept, the oldest are replaced."""

    def __init__(
        self, pictures: Pictures, size: int, pool: int, seed: int, device: torch.device
    ) -> None:
        self.size = size
        self.generator = torch.Generator(device).manual_seed(seed)
        self.outlines = pictures.outlines().to(device)
        self.renders, self.drawings = pictures.renders.to(device), pictures.drawings.to(device)
        self.props = Props(
            pictures.materials.to(device).float() / 255.0,
            pictures.photographs.to(device).float() / 255.0,
            self.renders,
        )
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
        for name in ("front", "back", "normal", "place", "behind", "shade"):
            setattr(scenes, name, getattr(scenes, name).half())
        return scenes

    def compose(self, scenes: Scenes, renders: int) -> Batch:
        """Paint scenes, put renders and drawings on grounds, and spoil all a little."""
        count = len(scenes.mask)
        dice = Dice(count, self.generator)
        look = shade(scenes, self.props.materials, self.props.photographs, self.generator)
        alpha, colors = soft_edges(scenes.mask, look.colors)
        behind = ground(scenes.place, count, self.size, self.props, self.generator)
        cast = scenes.shade[:, :1] * scenes.shade[:, 1:]
        flat = look.drawn & dice.chance(0.7)
        strength = dice.uniform(0.15, 0.75, 1, 1, 1)
        strength = strength * (dice.chance(0.55) & ~flat).float()[:, None, None, None]
        behind = bystanders(behind, colors, alpha, dice)
        behind = behind * (1.0 - strength * (1.0 - cast.float()))
        paper = (flat & dice.chance(0.6))[:, None, None, None]
        behind = torch.where(paper, dice.uniform(0.9, 1.06, 1, 1, 1).clamp(max=1.0), behind)
        picture = colors * alpha + behind * (1.0 - alpha)
        weight = scenes.good.float() * torch.where(scenes.simple, SIMPLE, 1.0)
        if renders:
            composed, cover = composed_renders(
                self.renders, self.drawings, self.props, renders, self.generator
            )
            picture, alpha = torch.cat([picture, composed]), torch.cat([alpha, cover])
            weight = torch.cat([weight, torch.ones(renders, device=weight.device)])
        picture, paint, behind = grade(picture, (look.paint, look.behind), self.generator)
        return Batch(degrade(picture, self.generator), alpha, weight, scenes, paint, behind)
