"""What the picture tells the UNet: text tokens that carry CLIP's image embedding, and a latent.

With h0 the encoded empty prompt (T, D), g CLIP's image embedding (D) and w the ramp (T, 1),

    conditional    h = h0 + w g        latent of the picture
    unconditional  h = h0              latent of a picture that is zero after normalisation

The second row exists with classifier-free guidance only, and comes first in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

from stages.models.visit import visiting
from stages.multiview.zero123plus import latents
from stages.multiview.zero123plus.noise import ViewNoise, normal
from stages.multiview.zero123plus.text import empty_prompt_ids
from stages.multiview.zero123plus.weights import load_text_encoder
from stages.weights.checkpoint import readable


@dataclass(frozen=True)
class Condition:
    """Float32 on the CPU; B is 2 with guidance (unconditional first), else 1.

    text     (B, T, D)
    latents  (B, 4, h, w), as the VAE samples them: not multiplied by its factor
    """

    text: torch.Tensor
    latents: torch.Tensor


@torch.no_grad()
def encode_empty_prompt(base: Path, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """h0: (1, T, D) float32 on the CPU. The text encoder lives only as long as this call."""
    encoder = load_text_encoder(base / "text_encoder", dtype)
    with readable(base / "tokenizer"):
        ids = empty_prompt_ids(base / "tokenizer", encoder.config.max_position_embeddings)
    with visiting(encoder, device):
        states = encoder(torch.tensor([ids], device=device)).last_hidden_state
        return states.float().cpu()


@torch.no_grad()
def embed_image(
    vision: CLIPVisionModelWithProjection, pixels: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """g: (1, D) float32 on the CPU, from CLIP's `pixels` (1, 3, 224, 224)."""
    embedding = vision(pixels.to(device, vision.dtype)).image_embeds
    return embedding.float().cpu()


def text_tokens(
    empty: torch.Tensor, ramp: torch.Tensor, image: torch.Tensor, guided: bool
) -> torch.Tensor:
    """(B, T, D) from h0 (1, T, D), the ramp (T, 1) and g (1, D)."""
    conditional = empty + ramp * image[:, None]
    return torch.cat([empty, conditional]) if guided else conditional


def condition_latents(
    vae: AutoencoderKL, pixels: torch.Tensor, noise: ViewNoise, guided: bool
) -> torch.Tensor:
    """(B, 4, h, w) from the VAE's `pixels` (1, 3, H, W).

    One picture at a time goes through the VAE. The picture's latent is drawn before that of zero.
    """

    def sample(of: torch.Tensor) -> torch.Tensor:
        mean, std = latents.posterior(vae, of)
        return mean + std * normal(tuple(mean.shape), noise.conditioning)

    conditional = sample(pixels)
    if not guided:
        return conditional
    return torch.cat([sample(torch.zeros_like(pixels)), conditional])
