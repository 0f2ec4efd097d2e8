"""Heun's method on FLUX's flow-matching ODE, with the reference's noise levels.

dx/dsigma = v(x, sigma), x(1) = noise, x(0) = latents (docs/reference.md, "Flux"). The reference
replaces FLUX's own scheduler and thereby drops its resolution-dependent shift; the constant shift
acts twice at the low end. Both are kept: the LoRA's results are judged on this schedule.

Heun's method evaluates v twice at each noise level: where a step's prediction ended, and again
where its correction did. With `reuse` the first of the two serves for both (PEC mode of
predictor-corrector methods; a corrector "without extra model evaluations" in UniPC, Zhao et al.,
2023, arXiv 2302.04867). It halves the work, is stable for steps of half the length, and is not the
reference's result. It is of second order still: a slope that is off by O(h^2) makes O(h^3) a step.
"""

from __future__ import annotations

import itertools
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
class NoiseLevels:
    """Noise levels from 1 to 0, and where an img2img run enters them.

    sigmas   N + 1 levels, the last one 0
    first    index of the level to start from
    reuse    evaluate once at each level
    """

    sigmas: tuple[float, ...]
    first: int = 0
    reuse: bool = False

    @classmethod
    def heun(cls, steps: int, strength: float, reuse: bool = False) -> NoiseLevels:
        """`steps` Heun steps, of which the last `strength` share is taken."""
        smallest = float(_shifted(np.array(1.0 / TRAIN_STEPS)))
        levels = _shifted(np.linspace(1.0, smallest, steps))
        first = int(max(steps - min(steps * strength, steps), 0))
        return cls((*levels.tolist(), 0.0), first, reuse)

    @property
    def start(self) -> float:
        """The noise level of the first state."""
        return self.sigmas[self.first]

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1 - self.first

    @property
    def evaluations(self) -> int:
        """Two a step, one for the last, which ends at 0; with `reuse` one a step."""
        return self.steps if self.reuse else 2 * self.steps - 1


def _shifted(level: np.ndarray) -> np.ndarray:
    """S(x) = s x / (1 + (s - 1) x)."""
    return SHIFT * level / (1.0 + (SHIFT - 1.0) * level)


def noisy_start(latents: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """x(sigma) of an image whose latents are known."""
    return sigma * noise + (1.0 - sigma) * latents


def integrate(
    velocity: Velocity, state: torch.Tensor, schedule: NoiseLevels
) -> Iterator[torch.Tensor]:
    """Follow the ODE; yields the state after each step."""
    count = itertools.count()
    slope: torch.Tensor | None = None
    for sigma, following in itertools.pairwise(schedule.sigmas[schedule.first :]):
        if slope is None or not schedule.reuse:
            slope = velocity(state, sigma, next(count))
        predicted = state + slope * (following - sigma)
        if following == 0.0:
            yield predicted
            return
        corrected = velocity(predicted, following, next(count))
        state = state + 0.5 * (slope + corrected) * (following - sigma)
        slope = corrected
        yield state
