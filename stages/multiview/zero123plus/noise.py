"""All random numbers of one run, from its seed alone.

Two independent streams, drawn in float32 on the CPU so that a seed gives the same noise on every
device and in every dtype. Order of the draws:

    sampling      the initial latent (1, 4, H, W), then one of its size a step, the last included
    conditioning  the latent of the picture (1, 4, h, w), the latent of the zero picture (only with
                  guidance), then one (B, 4, h, w) a step for the write pass, B as denoised

The original seeds the first stream only, and takes the second from PyTorch's global generator: its
pictures change from run to run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class ViewNoise:
    """The two streams, as generators on the CPU."""

    sampling: torch.Generator
    conditioning: torch.Generator

    @classmethod
    def from_seed(cls, seed: int) -> ViewNoise:
        """Sampling takes `seed` as it is; conditioning a seed derived from it."""
        derived = int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0] >> 1)
        return cls(
            torch.Generator().manual_seed(seed),
            torch.Generator().manual_seed(derived),
        )


def normal(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Standard normal numbers, float32 on the CPU."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)
