"""FLUX's autoencoder: pictures to normalised latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.flux.latents import LatentNoise

FACTOR = 8
"""Pixels a side of one latent."""

_FAST_DECODE_BYTES_PER_PIXEL = 4500
"""What a bf16 decode and its weights take where nothing limits them, rounded up from 8.5 GiB at
1024 x 2048."""

_LEAST_DECODE_BYTES_PER_PIXEL = 2300
"""What it passes in, since cuDNN then computes in less work space, and slower. With the memory of
an H100 capped it passed at 5 GiB and failed at 4, CUDA context (0.6) and weights (0.2) included."""


def vae_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that the autoencoder computes in: it overflows in float16."""
    return torch.bfloat16 if dtype is torch.float16 else dtype


def fast_decode_bytes(height: int, width: int, dtype: torch.dtype) -> int:
    """What a decode takes where nothing limits it, for nets that compute in `dtype`."""
    return int(_FAST_DECODE_BYTES_PER_PIXEL * height * width * _wider(vae_dtype(dtype)))


def least_decode_bytes(height: int, width: int, dtype: torch.dtype) -> int:
    """What a decode in one piece needs at the least, for nets that compute in `dtype`."""
    return int(_LEAST_DECODE_BYTES_PER_PIXEL * height * width * _wider(vae_dtype(dtype)))


def _wider(dtype: torch.dtype) -> float:
    """How much more than in bfloat16, in which it was measured."""
    return dtype.itemsize / torch.bfloat16.itemsize


@dataclass(frozen=True)
class Autoencoder:
    """An AutoencoderKL on the device that it is asked to compute on.

    tiling   whether it decodes in tiles; encoding needs less memory
    """

    vae: Any
    device: torch.device
    tiling: bool

    @torch.no_grad()
    def encode(self, image: np.ndarray, noise: LatentNoise) -> torch.Tensor:
        """(H, W, 3) in [0, 1] -> a sample of its latents, (1, C, H/8, W/8) float32."""
        self.vae.disable_tiling()  # a decode of an earlier job may have turned it on
        pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None]
        pixels = (2.0 * pixels - 1.0).to(self.device, self.vae.dtype)
        found = self.vae.encode(pixels).latent_dist
        sample = found.mean.float() + found.std.float() * noise.draw(found.mean.shape)
        config = self.vae.config
        return (sample - config.shift_factor) * config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """(1, C, h, w) float32 -> (8 h, 8 w, 3) float32 in [0, 1]; NaN stays NaN."""
        if self.tiling:
            self.vae.enable_tiling()
        else:
            self.vae.disable_tiling()
        config = self.vae.config
        scaled = latents / config.scaling_factor + config.shift_factor
        pixels = self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0]
        return (pixels[0].float() / 2.0 + 0.5).clamp(0.0, 1.0).permute(1, 2, 0).cpu().numpy()

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        return (1, self.vae.config.latent_channels, height // FACTOR, width // FACTOR)
