"""Small pictures of what is being denoised, without the autoencoder.

At a noise level sigma the state is x = (1 - sigma) z + sigma n (docs/reference.md, "Flux"), and the
velocity n - z; so z = x - sigma v is what the picture will be as far as is known. The velocity is
taken from the last step, as the difference of two states over that of their levels.
"""

from __future__ import annotations

import numpy as np
import torch

_FACTORS = torch.tensor(
    [
        (-0.0346, 0.0244, 0.0681),
        (0.0034, 0.0210, 0.0687),
        (0.0275, -0.0668, -0.0433),
        (-0.0174, 0.0160, 0.0617),
        (0.0859, 0.0721, 0.0329),
        (0.0004, 0.0383, 0.0115),
        (0.0405, 0.0861, 0.0915),
        (-0.0236, -0.0185, -0.0259),
        (-0.0245, 0.0250, 0.1180),
        (0.1008, 0.0755, -0.0421),
        (-0.0515, 0.0201, 0.0011),
        (0.0428, -0.0012, -0.0036),
        (0.0817, 0.0765, 0.0749),
        (-0.1264, -0.0522, -0.1103),
        (-0.0280, -0.0881, -0.0499),
        (-0.1262, -0.0982, -0.0778),
    ]
)
_BIAS = torch.tensor((-0.0329, -0.0718, -0.0851))
"""The linear map from FLUX.1's 16 normalised latents to RGB in [-1, 1] that fits its autoencoder
best. Source of the numbers: `Flux` in comfy/latent_formats.py of ComfyUI."""


def steps_to_show(steps: int, count: int) -> frozenset[int]:
    """At most `count` of the steps 1 .. steps - 1, evenly spread; the last one is the result."""
    marks = (round(steps * (number + 1) / (count + 1)) for number in range(count))
    return frozenset(step for step in marks if 0 < step < steps)


def clean_guess(
    before: torch.Tensor, after: torch.Tensor, sigma_before: float, sigma_after: float
) -> torch.Tensor:
    """What the state is on its way to, by the last step from one noise level to the next."""
    velocity = (after - before) / (sigma_after - sigma_before)
    return after - sigma_after * velocity


def picture(latents: torch.Tensor) -> np.ndarray:
    """(1, C, h, w) normalised latents -> (h, w, 3) uint8, roughly what they will be decoded to.

    Of an autoencoder with another number of channels than FLUX's 16 the first three are shown.
    """
    channels = latents[0].float().cpu().permute(1, 2, 0)
    if channels.shape[-1] == len(_FACTORS):
        rgb = channels @ _FACTORS + _BIAS
    else:
        rgb = torch.nn.functional.pad(channels[..., :3], (0, max(0, 3 - channels.shape[-1]))) / 3.0
    shown = torch.nan_to_num(rgb / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0
    return shown.round().to(torch.uint8).numpy()
