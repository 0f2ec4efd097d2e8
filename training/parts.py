"""What a random object is made of: up to `MAX_PARTS` solids, each a row of numbers.

An object's own frame is y up, front +z, about 2 long; a part's own axes are the columns of its
rotation. `Builder` collects parts for a whole batch of objects at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_PARTS = 14
ROW = 32
"""Numbers a part: see `Slot`."""

BOX, REVOLVED, OUTLINE, ELLIPSOID = 0.0, 1.0, 2.0, 3.0
"""Kinds: a box with round edges; a rectangle with round corners turned about y (cylinder, cone,
disc, ring); an outline that is extruded or inflated along z; an ellipsoid."""


class Slot:
    """Where what stands in a part's row; lengths in the object's unit."""

    CENTRE = 0  # 3
    AXES = 3  # 9, row major: columns are the part's axes
    ON = 12  # 1 where the part is there
    OP = 13  # 0 joins, 1 cuts
    KIND = 14
    HALF = 15  # 3: half sides before rounding; an ellipsoid's radii; an outline's size and depth
    ROUND = 18  # radius of the edges
    TAPER_X = 19  # relative change of width towards +y (top is 1 + taper, bottom 1 - taper)
    TAPER_Z = 20
    BEND = 21  # shift along x at both ends
    RING = 22  # radius of a revolved part's axis
    MIRROR_X = 23  # 1: the part and its mirror image
    MIRROR_Z = 24
    FOLD = 25  # n > 1: n copies about the object's y axis
    SMOOTH = 26  # width over which it melts into the parts before it
    OUTLINE = 27  # number of the outline
    INFLATED = 28  # share of the outline's size over which it rises; 0 for an extrusion
    STEP = 29  # share of the distance that may be marched safely
    TONE = 30  # 1: dark, as tyres and eyes are
    SIMPLE = 31  # in the first part's row, 1: the object is one plain solid


class Dice:
    """Random numbers for a batch of `count` objects from one generator; `outlines` are at hand."""

    def __init__(self, count: int, generator: torch.Generator, outlines: int = 1) -> None:
        self.outlines = outlines
        self.count, self.generator, self.device = count, generator, generator.device

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Tensor:
        """(count, *shape) in [low, high)."""
        drawn = torch.rand(self.count, *shape, generator=self.generator, device=self.device)
        return drawn * (high - low) + low

    def spread(self, low: float, high: float, *shape: int) -> Tensor:
        """(count, *shape), uniform in the logarithm."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, share: float) -> Tensor:
        """(count,) bool."""
        return self.uniform() < share

    def whole(self, low: int, high: int) -> Tensor:
        """(count,) int64 in [low, high]."""
        size = (self.count,)
        return torch.randint(low, high + 1, size, generator=self.generator, device=self.device)

    def choose(self, kinds: Sequence[float]) -> Tensor:
        """(count,) of `kinds`, each as likely."""
        return torch.tensor(kinds, device=self.device)[self.whole(0, len(kinds) - 1)]

    def edges(self) -> Tensor:
        """(count,) roundings: sharp, a little round, or as round as can be."""
        drawn = self.uniform()
        some = torch.where(drawn < 0.6, 0.05, self.uniform(0.1, 0.9))
        return torch.where(drawn < 0.25, 1.0, some)

    def rarely(self, share: float, size: float) -> Tensor:
        """(count,) in [-size, size) with a chance of `share`, else 0."""
        return torch.where(self.chance(share), self.uniform(-size, size), 0.0)

    def constant(self, value: float) -> Tensor:
        return torch.full((self.count,), value, device=self.device)


Number = Tensor | float


class Builder:
    """Collects the parts of `dice.count` objects: every call adds one part to each of them."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.rows: list[Tensor] = []

    def add(
        self,
        at: Sequence[Number],
        half: Sequence[Number],
        kind: Number = BOX,
        *,
        soft: Number = 0.2,
        turn: Sequence[Number] = (0.0, 0.0, 0.0),
        taper: Sequence[Number] = (0.0, 0.0),
        bend: Number = 0.0,
        ring: Number = 0.0,
        mirror: Sequence[Number] = (0.0, 0.0),
        fold: Number = 0.0,
        smooth: Number = 0.01,
        cut: Number = 0.0,
        outline: Number = 0.0,
        inflated: Number = 0.0,
        dark: Number = 0.0,
        on: Number = 1.0,
    ) -> None:
        """One part. `soft`: share of the smallest half side that is rounded (1: a capsule or a
        disc with a round rim). `turn`: radians about x, y and z. Numbers or (count,)."""
        row = torch.zeros(self.dice.count, ROW, device=self.dice.device)
        for index in range(3):
            row[:, Slot.CENTRE + index] = at[index]
            row[:, Slot.HALF + index] = half[index]
        row[:, Slot.AXES : Slot.AXES + 9] = rotation([self._full(t) for t in turn]).flatten(1)
        values = {
            Slot.ON: on, Slot.OP: cut, Slot.KIND: kind, Slot.TAPER_X: taper[0],
            Slot.TAPER_Z: taper[1], Slot.BEND: bend, Slot.RING: ring, Slot.MIRROR_X: mirror[0],
            Slot.MIRROR_Z: mirror[1], Slot.FOLD: fold, Slot.SMOOTH: smooth, Slot.OUTLINE: outline,
            Slot.INFLATED: inflated, Slot.TONE: dark,
        }  # fmt: skip
        for slot, value in values.items():
            row[:, slot] = value.float() if isinstance(value, Tensor) else value
        self._round(row, self._full(soft))
        self.rows.append(row)

    def finish(self) -> Tensor:
        """(count, MAX_PARTS, ROW) float32."""
        if len(self.rows) > MAX_PARTS:
            raise ValueError(f"{len(self.rows)} parts; an object has at most {MAX_PARTS}")
        parts = torch.stack(self.rows, dim=1)
        return torch.nn.functional.pad(parts, (0, 0, 0, MAX_PARTS - len(self.rows)))

    def _full(self, value: Number) -> Tensor:
        if isinstance(value, Tensor):
            return value.float()
        return self.dice.constant(value)

    def _round(self, row: Tensor, soft: Tensor) -> None:
        """Takes the rounding out of the half sides, and says how far a march may go."""
        half = row[:, Slot.HALF : Slot.HALF + 3]
        kind = row[:, Slot.KIND]
        plain = kind == BOX
        smallest = torch.where(plain, half.amin(1), half[:, :2].amin(1))
        radius = torch.where(kind == OUTLINE, half[:, 2], smallest) * soft.clamp(0.02, 1.0)
        row[:, Slot.ROUND] = torch.where(kind == ELLIPSOID, 0.0, radius)
        inner = (half - radius[:, None]).clamp(min=0.0)
        shrunk = (plain | (kind == REVOLVED))[:, None]
        row[:, Slot.HALF : Slot.HALF + 3] = torch.where(shrunk, inner, half)
        height = row[:, Slot.HALF + 1] + row[:, Slot.ROUND] + 1e-3
        lean = row[:, [Slot.TAPER_X, Slot.TAPER_Z]].abs().amax(1)
        slope = 2.0 * row[:, Slot.BEND].abs() / height + lean * half[:, [0, 2]].amax(1) / height
        step = 0.95 / torch.sqrt(1.0 + slope**2)
        rises = torch.where(row[:, Slot.INFLATED] > 0.0, 0.55, 0.9)
        row[:, Slot.STEP] = torch.where(kind == OUTLINE, rises, step).clamp(min=0.2)


def rotation(angles: Sequence[Tensor]) -> Tensor:
    """(N, 3, 3) from three (N,) radians: turned about x, then about z, then about y."""
    (cx, cy, cz), (sx, sy, sz) = [a.cos() for a in angles], [a.sin() for a in angles]
    zero, one = torch.zeros_like(cx), torch.ones_like(cx)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=-1).reshape(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return about_y @ about_z @ about_x
