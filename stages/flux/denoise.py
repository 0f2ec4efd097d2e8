"""The denoising loop: transformer, ControlNet-Union, Heun.

It only ever calls `transformer(...)` and `controlnet(...)`; where their weights are, and in which
form, is the business of `placement` and `build`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import silu

from stages.contract import StageError
from stages.flux.cached_velocity import CachedNets
from stages.flux.schedule import TRAIN_STEPS, NoiseLevels, integrate

Residuals = tuple[list[torch.Tensor] | None, list[torch.Tensor] | None]
"""What is added to the double and the single blocks; None where a ControlNet has none of a kind."""


@dataclass(frozen=True)
class Text:
    """What the picture is to show, in the nets' dtype and on their device.

    tokens    (1, T, D) T5 and Redux tokens
    pooled    (1, P) CLIP
    guidance  the embedded guidance scale
    """

    tokens: torch.Tensor
    pooled: torch.Tensor
    guidance: float


@dataclass(frozen=True)
class Control:
    """One control image.

    tokens      (1, L, 64) its packed latents, in the nets' dtype
    mode        number of the mode that ControlNet-Union embeds
    scale       factor of the residuals
    start, end  acts in evaluation i of n if i/n >= start and (i+1)/n <= end
    """

    tokens: torch.Tensor
    mode: int
    scale: float
    start: float
    end: float

    def acts(self, evaluation: int, evaluations: int) -> bool:
        return evaluation / evaluations >= self.start and (evaluation + 1) / evaluations <= self.end


@dataclass(frozen=True)
class Denoiser:
    """The velocity field of one job.

    transformer  FluxTransformer2DModel, or what is called like it
    controlnet   FluxControlNetModel with modes, None without controls
    ids          (L, 3) positions of the image tokens
    expect       told before each evaluation how often it calls the ControlNet, and the number of
                 its noise level among those of `embeddings`
    cached       the nets with a cache of their evaluations; None: each is computed
    """

    transformer: Any
    controlnet: Any
    text: Text
    controls: Sequence[Control]
    ids: torch.Tensor
    expect: Callable[[int, int], None]
    cached: CachedNets | None = None

    @torch.no_grad()
    def embeddings(self, net: Any, schedule: NoiseLevels) -> list[torch.Tensor]:
        """What AdaLN's layers of a net are given, (1, d) for each noise level of the schedule.

        As `forward` makes it of noise level, guidance and prompt, the activation included.
        """
        found = []
        for sigma in _levels(schedule):
            dtype = self.text.pooled.dtype
            conditions = [self._time(sigma).to(dtype) * TRAIN_STEPS]
            guidance = self._guidance(net)
            if guidance is not None:
                conditions.append(guidance.to(dtype) * TRAIN_STEPS)
            found.append(silu(net.time_text_embed(*conditions, self.text.pooled)))
        return found

    @torch.no_grad()
    def run(
        self,
        start: torch.Tensor,
        schedule: NoiseLevels,
        on_step: Callable[[int, torch.Tensor, torch.Tensor], None],
    ) -> torch.Tensor:
        """Noisy tokens (1, L, 64) float32 at the schedule's start -> clean ones.

        The state stays float32 between evaluations; only what the nets are given is rounded.
        on_step(k, before, after) is called after each of the schedule's steps, with the states
        before and behind it. Raises StageError (internal) as
        soon as a step gives NaN or infinity.
        """
        state, total = start, schedule.evaluations
        number = {sigma: index for index, sigma in enumerate(_levels(schedule))}

        def velocity(state: torch.Tensor, sigma: float, evaluation: int) -> torch.Tensor:
            acting = [control for control in self.controls if control.acts(evaluation, total)]
            self.expect(len(acting), number[sigma])
            return self._velocity(state, sigma, acting, evaluation)

        for step, after in enumerate(integrate(velocity, start, schedule), 1):
            before, state = state, after
            if not bool(torch.isfinite(state).all()):
                raise StageError(
                    "internal",
                    f"step {step} of {schedule.steps} gave NaN or infinity",
                    "use dtype bfloat16 instead of float16, or another storage",
                )
            on_step(step, before, state)
        return state

    def _velocity(
        self, state: torch.Tensor, sigma: float, controls: Sequence[Control], evaluation: int
    ) -> torch.Tensor:
        tokens = self.text.tokens
        shared = {
            "hidden_states": state.to(tokens.dtype),
            "timestep": self._time(sigma),
            "encoder_hidden_states": tokens,
            "pooled_projections": self.text.pooled,
            "txt_ids": torch.zeros(tokens.shape[1], 3, device=state.device),
            "img_ids": self.ids,
            "return_dict": False,
        }
        if self.cached is not None:
            guidance = [self._guidance(self.transformer)]
            guidance.append(self._guidance(self.controlnet) if controls else None)
            told = [(control.tokens, control.mode, control.scale) for control in controls]
            return self.cached.velocity(evaluation, shared, guidance, told).float()
        # Never evaluated just to be multiplied by zero, as the reference does.
        blocks, single_blocks = self._residuals(shared, controls) if controls else (None, None)
        (velocity,) = self.transformer(
            guidance=self._guidance(self.transformer),
            controlnet_block_samples=blocks,
            controlnet_single_block_samples=single_blocks,
            **shared,
        )
        return velocity.float()

    def _residuals(self, shared: dict[str, Any], controls: Sequence[Control]) -> Residuals:
        """The sum of what the controls add to the transformer's blocks."""
        summed: Residuals | None = None
        for control in controls:
            mode = torch.tensor([[control.mode]], device=self.ids.device)
            found = self.controlnet(
                controlnet_cond=control.tokens,
                controlnet_mode=mode,
                conditioning_scale=control.scale,
                guidance=self._guidance(self.controlnet),
                **shared,
            )
            summed = found if summed is None else _add(summed, found)
        assert summed is not None
        return summed

    def _time(self, sigma: float) -> torch.Tensor:
        """(1,) in the nets' dtype; rounded before the division, as diffusers' pipelines do."""
        time = torch.tensor([TRAIN_STEPS * sigma], device=self.ids.device)
        return time.to(self.text.tokens.dtype) / TRAIN_STEPS

    def _guidance(self, net: Any) -> torch.Tensor | None:
        if not net.config.guidance_embeds:
            return None
        return torch.tensor([self.text.guidance], device=self.ids.device)


def _levels(schedule: NoiseLevels) -> tuple[float, ...]:
    """The noise levels of evaluations; 0, where the last step ends, is none."""
    return schedule.sigmas[schedule.first : -1]


def _add(one: Residuals, other: Residuals) -> Residuals:
    double, single = (
        None if a is None or b is None else [x + y for x, y in zip(a, b, strict=True)]
        for a, b in zip(one, other, strict=True)
    )
    return double, single
