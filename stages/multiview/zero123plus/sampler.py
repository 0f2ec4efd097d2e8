"""The denoising loop: ancestral Euler steps on v-predictions, each in view of the reference.

With sigma the noise level of a step and z the condition's latent, the UNet gets, both divided by
sqrt(sigma^2 + 1),

    x                  the latent of the grid, once for each half of the guidance batch
    z + sigma eps      the reference, noised to the same level, eps new in every step
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)

from stages.contract import StageError
from stages.multiview.zero123plus.conditioning import Condition
from stages.multiview.zero123plus.graphed import Graphed
from stages.multiview.zero123plus.noise import ViewNoise, normal
from stages.multiview.zero123plus.reference_attention import ReferenceUNet


@torch.no_grad()
def denoise(
    unet: ReferenceUNet,
    scheduler: EulerAncestralDiscreteScheduler,
    condition: Condition,
    side: int,
    guidance: float,
    noise: ViewNoise,
    on_step: Callable[[int], None],
) -> torch.Tensor:
    """The grid's latent (1, 4, side, side), float32, in the range of `scale_latents`.

    scheduler  its timesteps set
    on_step    called with the number of steps done

    The latent stays float32 between steps; only the UNet works in its own dtype, on its own device.
    Raises StageError as soon as a step's result is not finite.
    """
    device, dtype = unet.device, unet.dtype
    text = condition.text.to(device, dtype)
    reference = condition.latents.to(device)
    count = len(scheduler.timesteps)
    predict = Graphed(unet)

    def scaled(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return scheduler.scale_model_input(latents, timestep).to(dtype)

    start = normal((1, unet.channels, side, side), noise.sampling)
    latents = start.to(device) * float(scheduler.init_noise_sigma)
    for step, timestep in enumerate(scheduler.timesteps):
        eps = normal(tuple(reference.shape), noise.conditioning).to(device)
        noised = reference + float(scheduler.sigmas[step]) * eps
        predicted = predict(
            scaled(latents, timestep).repeat(len(text), 1, 1, 1),
            timestep.to(device),
            text,
            scaled(noised, timestep),
        ).float()
        if len(text) == 2:
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + guidance * (conditional - unconditional)
        latents = scheduler.step(predicted, timestep, latents, generator=noise.sampling).prev_sample
        require_finite(latents, f"after step {step + 1} of {count}", dtype)
        on_step(step + 1)
    return latents


def require_finite(values: torch.Tensor, when: str, dtype: torch.dtype) -> None:
    """Raise StageError (internal, so that the ladder goes on) if a value is NaN or infinite."""
    if not bool(torch.isfinite(values).all()):
        name = str(dtype).removeprefix("torch.")
        advice = (
            "numbers overflowed: give this node's attempt dtype bfloat16, or float32"
            if dtype == torch.float16
            else "the weights may be damaged: get them again (`kiss3d-orchestrate models pull`)"
        )
        raise StageError("internal", f"Zero123++ got NaN or infinity {when} ({name})", advice)
