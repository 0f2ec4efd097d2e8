"""Between pictures, the VAE's latents, and the range in which Zero123++ denoises them.

Zero123++ moves Stable Diffusion's latents and pixels (constants as published with v1.2). Training
sees, for pixels x in [-1, 1],

    z = 0.75 (0.18215 VAE.encode(0.625 x) - 0.22)

and sampling goes the same way back. The condition's latent is neither multiplied by the VAE's
factor nor moved by 0.22, and its extractor has scaled its pixels (std 0.8) already.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

TILE = 512
"""Side in pixels of the tiles that `vae_tiling` decodes, a quarter of it shared with the next."""


def unscale_latents(latents: torch.Tensor) -> torch.Tensor:
    """The range that is denoised -> latents, multiplied by the VAE's factor."""
    return latents / 0.75 + 0.22


def unscale_image(image: torch.Tensor) -> torch.Tensor:
    """[-0.625, 0.625], the range that the VAE works in -> pixels in [-1, 1]."""
    return image / 0.5 * 0.8


def pixels_per_latent(vae: AutoencoderKL) -> int:
    """Pixels along the side of one latent: 8 for Stable Diffusion's VAE."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


@torch.no_grad()
def posterior(vae: AutoencoderKL, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latent of `pixels` (1, 3, H, W), float32 on the CPU."""
    vae.use_tiling = False
    distribution = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    return distribution.mean.float().cpu(), distribution.std.float().cpu()


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, tiling: bool) -> torch.Tensor:
    """Denoised latents (1, 4, h, w) -> pixels (1, 3, H, W), float32 on the CPU, [0, 1] by meaning.

    Not clipped: NaN and overflow stay visible.
    """
    if tiling:
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // pixels_per_latent(vae)
    vae.use_tiling = tiling
    unscaled = unscale_latents(latents.float()) / vae.config.scaling_factor
    pixels = vae.decode(unscaled.to(vae.device, vae.dtype), return_dict=False)[0]
    return unscale_image(pixels.float().cpu()) / 2.0 + 0.5


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1], clipped -> (H, W, 3) uint8."""
    clipped = pixels[0].clamp(0.0, 1.0).permute(1, 2, 0).numpy()
    return np.rint(clipped * 255.0).astype(np.uint8)
