"""A field without a surface: the model saw no object. Two ways to go on all the same."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


def has_surface(sdf: Tensor, resolution: int) -> bool:
    """Whether the inner vertices of a grid, ((R + 1)^3,), have values of both signs."""
    inner = _cube(sdf, resolution)[1:-1, 1:-1, 1:-1]
    return bool((inner > 0).any() and (inner < 0).any())


def repaired(sdf: Tensor, resolution: int, mode: Literal["repair", "reference"]) -> Tensor:
    """A copy of an all-outside or all-inside field, ((R + 1)^3,), that has a surface.

    The centre vertex and the outermost two layers get new values. "repair" makes the centre inside
    and the border outside. "reference" does as the reference: its values suit fields that are
    positive inside, so the mesh is inside out, or hollow; its centre is one vertex past the middle.
    """
    values = _cube(sdf.clone(), resolution)
    if mode == "repair":
        size = 1.0 + float(sdf.abs().max())
        center, border = -size, size
    else:
        center, border = 1.0 - float(sdf.min()), -1.0 - float(sdf.max())
    middle = resolution // 2 + (1 if mode == "reference" else 0)
    # A new value of 0 counts as none.
    if border:
        for layers in (slice(0, 2), slice(-2, None)):
            values[layers] = values[:, layers] = values[:, :, layers] = border
    if center:
        values[middle, middle, middle] = center
    return values.flatten()


def _cube(sdf: Tensor, resolution: int) -> Tensor:
    side = resolution + 1
    return sdf.view(side, side, side)
