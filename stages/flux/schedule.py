"""Heun's method on FLUX's flow-matching ODE, with the reference's noise levels.

dx/dsigma = v(x, sigma), x(1) = noise, x(0) = latents (reference/pipeline.md 6.3). The reference
replaces FLUX's own scheduler and thereby drops its resolution-dependent shift; the constant shift
acts twice at the low end. Both are kept: the LoRA's results are judged on this schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SHIFT = 3.0
TRAIN_STEPS = 1000

Velocity = Callable[["torch.Tensor", float, int], "torch.Tensor"]
"""(state, sigma, evaluation number) -> v, same shape as the state."""


@dataclass(frozen=True)
class Schedule:
    """Noise levels from 1 to 0, and where an img2img run enters them.

    sigmas   N + 1 levels, the last one 0
    first    index of the level to start from
    """

    sigmas: tuple[float, ...]
    first: int = 0

    @classmethod
    def heun(cls, steps: int, strength: float) -> Schedule:
        """`steps` Heun steps, of which the last `strength` share is taken."""
        smallest = float(_shifted(np.array(1.0 / TRAIN_STEPS)))
        levels = _shifted(np.linspace(1.0, smallest, steps))
        first = int(max(steps - min(steps * strength, steps), 0))
        return cls((*levels.tolist(), 0.0), first)

    @property
    def start(self) -> float:
        """The noise level of the first state."""
        return self.sigmas[self.first]

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1 - self.first

    @property
    def evaluations(self) -> int:
        """Two a step, one for the last, which ends at 0."""
        return 2 * self.steps - 1


def _shifted(level: np.ndarray) -> np.ndarray:
    """S(x) = s x / (1 + (s - 1) x)."""
    return SHIFT * level / (1.0 + (SHIFT - 1.0) * level)


def noisy_start(latents: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """x(sigma) of an image whose latents are known."""
    return sigma * noise + (1.0 - sigma) * latents


def integrate(
    velocity: Velocity, state: torch.Tensor, schedule: Schedule
) -> Iterator[torch.Tensor]:
    """Follow the ODE; yields the state after each evaluation.

    Every other state is Heun's result for a step, those between are its Euler predictions.
    """
    evaluation = 0
    for step in range(schedule.first, len(schedule.sigmas) - 1):
        sigma, following = schedule.sigmas[step : step + 2]
        slope = velocity(state, sigma, evaluation)
        predicted = state + slope * (following - sigma)
        yield predicted
        evaluation += 1
        if following == 0.0:
            return
        corrected = velocity(predicted, following, evaluation)
        state = state + 0.5 * (slope + corrected) * (following - sigma)
        yield state
        evaluation += 1
