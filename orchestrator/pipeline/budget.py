"""How much of the machine a process may take, and what it is expected to take. Data only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Budget:
    """What a process may take, in bytes; 0: no limit.

    vram  of the card, the CUDA context included
    host  of host memory, for weights
    why   where the numbers come from, for people
    """

    vram: int = 0
    host: int = 0
    why: str = ""


NO_LIMIT = Budget()


@dataclass(frozen=True)
class Prediction:
    """What a rung is expected to take within a budget: bytes, and seconds for one job and its load.

    measured  on what the expectation rests
    """

    vram: int
    host: int
    seconds: float
    measured: str

    def as_row(self) -> dict[str, Any]:
        return asdict(self)
