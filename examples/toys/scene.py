"""Parts with their paint, and a scene of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from toys.shapes import Field, Points

Paint = Callable[[Points], np.ndarray]  # (N, 3) -> (N, 3) linear colour in [0, 1]


def srgb(text: str) -> np.ndarray:
    """ "#rrggbb" -> linear colour."""
    code = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255.0
    linear: np.ndarray = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def plain(colour: str) -> Paint:
    value = srgb(colour)
    return lambda p: np.broadcast_to(value, p.shape)


@dataclass(frozen=True)
class Part:
    """gloss 0 is matt, 1 is glazed; glow is light that the part sends out by itself."""

    field: Field
    paint: Paint
    gloss: float = 0.3
    glow: float = 0.0


@dataclass(frozen=True)
class Scene:
    """`reach` is the radius around the origin that holds every part."""

    parts: tuple[Part, ...]
    background: str  # "transparent", "white" or "studio"
    azimuth: float
    elevation: float
    reach: float
    floor: float = -1.0

    def distance(self, p: Points) -> np.ndarray:
        return reduce(np.minimum, (part.field(p) for part in self.parts))

    def nearest_part(self, p: Points) -> np.ndarray:
        return np.argmin([part.field(p) for part in self.parts], axis=0)
