"""The loaded models, and one job's way through them: encode, denoise, decode."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL

from stages.contract import BadInput, Context, StageError
from stages.flux import budget
from stages.flux.autoencoder import Autoencoder, vae_dtype
from stages.flux.blocks import FLUX_BLOCKS
from stages.flux.build import Form, build
from stages.flux.cached_velocity import CachedNets
from stages.flux.checkpoints import open_folder
from stages.flux.compiling import Compile, Compiling
from stages.flux.controls import MODE_NUMBER
from stages.flux.denoise import Control, Denoiser, Text
from stages.flux.eight_bit_choice import STREAMED_LOADING, choose, layers_of_job
from stages.flux.first_block_cache import FirstBlockCache
from stages.flux.kept_figures import cache_folder, file_name
from stages.flux.latents import LatentNoise, image_ids, pack, unpack
from stages.flux.lora import read_loras
from stages.flux.nets import Nets, WholeNets
from stages.flux.params import PATCH, FluxParams
from stages.flux.placement import home_of, place
from stages.flux.previews import clean_guess, picture, steps_to_show
from stages.flux.schedule import NoiseLevels, noisy_start
from stages.flux.streamed_nets import TEXT_TOKENS, StreamedNets
from stages.models.compiled_blocks import CompiledBlocks
from stages.streaming.fused_rounding import why_plain

FLAT = 0.02
"""Contrast (of 1) below which a picture shows nothing; a bundle has white beside an object."""


@dataclass(frozen=True)
class Denoising:
    """What one run works on, sizes as in the params.

    reference      (H, W, 3) float32 in [0, 1], None in text mode
    control_images (H, W, 3) uint8, one for each of the param controlnet
    prompt_embeds  (T, D) float32
    pooled_embeds  (P,) float32
    """

    reference: np.ndarray | None
    control_images: Sequence[np.ndarray]
    prompt_embeds: np.ndarray
    pooled_embeds: np.ndarray
    seed: int


class Engine:
    """Transformer, ControlNet and autoencoder, placed as the params say."""

    def __init__(self, params: FluxParams, context: Context) -> None:
        """Load. Raises StageError: missing_weights, bad_input, missing_dependency, and
        out_of_memory where streaming or decoding cannot keep to the context's budgets."""
        self._params = params
        self._device = torch.device(context.device)
        self._dtype: torch.dtype = getattr(torch, context.dtype)
        budget.require_room_to_decode(params, context, self._dtype)
        if self._device.type == "cpu":
            torch.set_num_threads(context.threads)
        choice = choose(
            "bf16" if params.is_gguf else params.compute,
            self._device,
            self._dtype,
            layers_of_job(
                NoiseLevels.heun(params.steps, 1.0, params.sampler == "heun_pec").evaluations,
                params.height * params.width // PATCH**2 + TEXT_TOKENS,
            ),
            STREAMED_LOADING if params.placement == "streamed" else 0.0,
        )
        self._kind = choice.kind
        lora = read_loras(params.used_loras)
        home = home_of(params.placement, self._device)
        plain = Form(vae_dtype(self._dtype), "full", self._device, home)
        vae = build(AutoencoderKL, open_folder(params.vae, "vae"), plain)
        self._vae = place(vae, params.placement, self._device)
        self._autoencoder = Autoencoder(vae, self._device, params.vae_tiling)
        self.nets: Nets
        if params.placement == "streamed":
            self.nets = StreamedNets(params, context, self._dtype, lora, choice.kind)
        else:
            self.nets = WholeNets(params, self._device, self._dtype, lora, choice.kind)
        self._compiling = self._open_compiling(params.compile)
        left_out = lora.t5_layers if lora is not None else 0
        self._note = f", {left_out} T5 layers of the LoRA left out" if left_out else ""
        self._note += "".join(f", {note}" for note in (self.nets.note, choice.note) if note)

    def _open_compiling(self, mode: Compile) -> Compiling | None:
        nets = [net for net in (self.nets.transformer, self.nets.controlnet) if net is not None]
        if mode == "off" or (self._device.type == "cpu" and mode == "auto"):
            return None
        blocks = CompiledBlocks([] if self.nets.hooked else nets, FLUX_BLOCKS)
        blocks.why_not = self.nets.hooked
        file = file_name("compiling", self._device, self._dtype, self._kind or "")
        return Compiling(mode, blocks, cache_folder(), file)

    def close(self) -> None:
        """Give back what the nets hold."""
        self.nets.close()

    def run(self, job: Denoising, note: str, context: Context) -> np.ndarray:
        """The bundle, (H, W, 3) float32 in [0, 1]. Raises StageError: bad_input, internal.

        context: of this job, for what it is told on the way.
        Random numbers are drawn in the reference's order: for each control image, for the
        reference bundle, then the noise; also for pictures that turn out not to matter, so
        that changing a scale or the strength leaves the noise alone.
        """
        params, progress = self._params, context.progress
        schedule = NoiseLevels.heun(
            params.steps,
            1.0 if job.reference is None else params.strength,
            reuse=params.sampler == "heun_pec",
        )
        total = schedule.steps + 2
        progress(0, total, note + self._note)
        text = self._text(job)
        noise = LatentNoise(job.seed, params.noise, self._device, self._dtype)
        shape = self._autoencoder.latent_shape(params.height, params.width)
        with self._vae.on_device():
            controls = self._controls(job, noise)
            start = self._start(job, schedule, noise, shape)
        errors, evaluations = self.nets.errors, itertools.count()
        compiling = self._compiling
        errors.forget("activations")

        def expect(controls: int, level: int) -> None:
            errors.watching = self._kind is not None and next(evaluations) == 0
            if compiling is not None:
                compiling.before_evaluation()
            self.nets.expect(controls, level, cached is not None)

        def skipped() -> None:
            if compiling is not None:
                compiling.skipped()
            self.nets.skipped()

        cached = self._cached(controls, schedule, skipped)
        denoiser = Denoiser(
            self.nets.transformer,
            self.nets.controlnet,
            text,
            controls,
            image_ids(*shape[2:], self._device),
            expect,
            cached,
        )
        shown = steps_to_show(schedule.steps, context.previews)

        def on_step(step: int, before: torch.Tensor, after: torch.Tensor) -> None:
            progress(step, total, f"step {step}/{schedule.steps}")
            if compiling is not None:
                compiling.after_step()
            if step in shown:
                levels = schedule.sigmas[schedule.first + step - 1 :][:2]
                guess = unpack(clean_guess(before, after, *levels), *shape[2:])
                context.preview(f"step-{step:03}", picture(guess))

        with ExitStack() as stack:
            stack.enter_context(self.nets.on_device(lambda net: denoiser.embeddings(net, schedule)))
            if compiling is not None:
                stack.enter_context(compiling.job(schedule.evaluations))
            tokens = denoiser.run(pack(start), schedule, on_step)
        progress(total - 1, total, "decode")
        with self._vae.on_device():
            bundle = self._autoencoder.decode(unpack(tokens, *shape[2:]))
        check_picture(bundle)
        for cost in self._costs(cached, schedule.evaluations):
            context.warn(cost, degraded=True)
        if compiling is not None and (told := compiling.told()):
            context.warn(told)
        if self._kind is not None and (why := why_plain()):
            context.warn(f"eight bits without Triton's kernels, which is slower: {why}")
        progress(total, total)
        return bundle

    def _cached(
        self, controls: Sequence[Control], schedule: NoiseLevels, skipped: Callable[[], None]
    ) -> CachedNets | None:
        """The nets with a cache of a job's evaluations, where the params ask for one."""
        if not self._params.cache:
            return None
        total = schedule.evaluations
        acting = [
            frozenset(n for n, control in enumerate(controls) if control.acts(number, total))
            for number in range(total)
        ]
        cache = FirstBlockCache(self._params.cache, acting, schedule.reuse)
        nets = CachedNets(self.nets.transformer, self.nets.controlnet, cache, skipped)
        nets.check()
        return nets

    def _costs(self, cached: CachedNets | None, evaluations: int) -> Iterator[str]:
        """What was given up for speed, measured where it can be."""
        if cached is not None and (skipped := cached.cache.skipped):
            yield (
                f"{skipped} of {evaluations} evaluations were finished from earlier ones "
                f"(cache {self._params.cache:g})"
            )
        if self._kind is not None:
            errors = self.nets.errors
            yield (
                f"multiplied in eight bits ({self._kind}): weights off by "
                f"{errors.share('weights'):.1%}, activations by {errors.share('activations'):.1%}"
            )

    def _text(self, job: Denoising) -> Text:
        config = self.nets.transformer.config
        for name, found, wanted in (
            ("prompt_embeds", job.prompt_embeds.shape[1], config.joint_attention_dim),
            ("pooled_embeds", job.pooled_embeds.shape[0], config.pooled_projection_dim),
        ):
            if found != wanted:
                raise BadInput(
                    f"{name} are {found} wide, the transformer {self._params.transformer} "
                    f"takes {wanted}",
                    "encode the prompt with the text encoders of the same model",
                )
        tokens, pooled = (
            torch.from_numpy(np.array(array))[None].to(self._device, self._dtype)
            for array in (job.prompt_embeds, job.pooled_embeds)
        )
        return Text(tokens, pooled, self._params.guidance_scale)

    def _controls(self, job: Denoising, noise: LatentNoise) -> list[Control]:
        controls = []
        for params, image in zip(self._params.controlnet, job.control_images, strict=True):
            latents = self._autoencoder.encode(image / np.float32(255.0), noise)
            if params.scale > 0:
                tokens = pack(latents).to(self._dtype)
                number = MODE_NUMBER[params.mode]
                controls.append(Control(tokens, number, params.scale, params.start, params.end))
        return controls

    def _start(
        self, job: Denoising, schedule: NoiseLevels, noise: LatentNoise, shape: Sequence[int]
    ) -> torch.Tensor:
        """(1, C, h, w) float32 at the schedule's first noise level."""
        if job.reference is None or schedule.start == 1.0:
            noise.draw(shape)
            return noise.draw(shape)
        latents = self._autoencoder.encode(job.reference, noise)
        return noisy_start(latents, noise.draw(shape), schedule.start)


def check_picture(picture: np.ndarray) -> None:
    """Raise StageError (internal) for a picture of NaN, or one that is all of one colour."""
    hint = "use dtype bfloat16 instead of float16, storage full, or other weights"
    if not np.isfinite(picture).all():
        raise StageError("internal", "the decoded bundle contains NaN or infinity", hint)
    contrast = float(np.ptp(picture.reshape(-1, picture.shape[-1]), axis=0).max())
    if contrast < FLAT:
        mean = ", ".join(f"{value:.2f}" for value in picture.mean(axis=(0, 1)))
        raise StageError(
            "internal", f"the decoded bundle is flat (contrast {contrast:.3f}, mean {mean})", hint
        )
