"""Zero123++ put together: one picture in, four views out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from torch import nn
from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

from stages.models.pixels import PixelExtractor
from stages.models.visit import place, visiting
from stages.multiview.zero123plus import latents
from stages.multiview.zero123plus.conditioning import (
    Condition,
    condition_latents,
    embed_image,
    encode_empty_prompt,
    text_tokens,
)
from stages.multiview.zero123plus.grid import views_of
from stages.multiview.zero123plus.noise import ViewNoise
from stages.multiview.zero123plus.params import Zero123PlusParams
from stages.multiview.zero123plus.reference_attention import ReferenceUNet
from stages.multiview.zero123plus.sampler import denoise, require_finite
from stages.multiview.zero123plus.weights import (
    load_ramp,
    load_unet,
    load_vae,
    load_vision_encoder,
)
from stages.weights.checkpoint import readable

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Zero123Plus:
    """The networks in host memory, and what else a picture needs.

    empty_prompt  (1, T, D) float32
    ramp          (T, 1) float32
    device        where each network works in its turn
    """

    unet: ReferenceUNet
    vae: AutoencoderKL
    vision: CLIPVisionModelWithProjection
    empty_prompt: torch.Tensor
    ramp: torch.Tensor
    clip_pixels: PixelExtractor
    vae_pixels: PixelExtractor
    scheduler: EulerAncestralDiscreteScheduler
    device: torch.device
    params: Zero123PlusParams

    @classmethod
    def load(
        cls,
        base: Path,
        unet: Path,
        device: torch.device,
        dtype: torch.dtype,
        params: Zero123PlusParams,
    ) -> Zero123Plus:
        """base: folder of everything but the UNet's weights; unet: file of these.

        Raises StageError (missing_weights) for files that are damaged or of another model.
        """
        empty_prompt = encode_empty_prompt(base, device, dtype)
        with readable(base):
            clip_pixels = PixelExtractor.load(base / "feature_extractor_clip")
            vae_pixels = PixelExtractor.load(base / "feature_extractor_vae")
            scheduler = EulerAncestralDiscreteScheduler.from_pretrained(
                base / "scheduler", timestep_spacing="trailing", local_files_only=True
            )
        return cls(
            unet=ReferenceUNet(load_unet(base / "unet", unet, dtype)),
            vae=load_vae(base / "vae", dtype),
            vision=load_vision_encoder(base / "vision_encoder", dtype),
            empty_prompt=empty_prompt,
            ramp=load_ramp(base, empty_prompt.shape[1]),
            clip_pixels=clip_pixels,
            vae_pixels=vae_pixels,
            scheduler=scheduler,
            device=device,
            params=params,
        )

    def views(self, image: np.ndarray, seed: int, progress: Progress) -> np.ndarray:
        """(S, S, 3) uint8 -> front, left, back, right (4, 512, 512, 3) uint8."""
        total = self.params.steps + 2
        noise = ViewNoise.from_seed(seed)
        progress(0, total, "encoding the picture")
        condition = self._condition(image, noise)
        progress(1, total, "denoising")
        with self._on_device(self.unet.unet):
            self.scheduler.set_timesteps(self.params.steps)
            denoised = denoise(
                self.unet,
                self.scheduler,
                condition,
                2 * self.params.view_size // latents.pixels_per_latent(self.vae),
                self.params.guidance,
                noise,
                lambda step: progress(1 + step, total, "denoising"),
            )
        progress(total - 1, total, "decoding")
        with self._on_device(self.vae):
            pixels = latents.decode(self.vae, denoised, self.params.vae_tiling)
        require_finite(pixels, "in the VAE", self.vae.dtype)
        progress(total, total, "")
        return views_of(latents.to_uint8(pixels))

    def _on_device(self, module: nn.Module) -> AbstractContextManager[None]:
        """CLIP's encoder, the VAE, the UNet and the VAE again work one after another: each is on
        the device for its turn only, unless it is to be kept there."""
        if not self.params.keep_on_device:
            return visiting(module, self.device)
        place(module, self.device)
        return nullcontext()

    def _condition(self, image: np.ndarray, noise: ViewNoise) -> Condition:
        guided = self.params.guidance > 1.0
        with self._on_device(self.vision):
            embedding = embed_image(self.vision, self.clip_pixels(image), self.device)
        with self._on_device(self.vae):
            latent = condition_latents(self.vae, self.vae_pixels(image), noise, guided)
        return Condition(text_tokens(self.empty_prompt, self.ramp, embedding, guided), latent)
