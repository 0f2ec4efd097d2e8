"""The networks from their files: meta tensors first, then the file's own, none missing or surplus.

Folder layout of sudo-ai/zero123plus-v1.2: model_index.json, and one folder a component, as
diffusers' `save_pretrained` writes it. The UNet's weights are a state dict of their own, FlexGen's:
of the folder unet/ only config.json is read.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPVisionModelWithProjection

from stages.models.pretrained import from_folder
from stages.weights.checkpoint import load_state_dict, readable, require_fit, require_shapes, shapes


def load_unet(config: Path, file: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet of `config` (a folder with config.json) with the state dict in `file`.

    Weights of another dtype are cast one by one while the file is mapped, so host memory holds them
    once. Raises StageError (missing_weights) that names the keys that do not fit.
    """
    with readable(file):
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(
                UNet2DConditionModel.load_config(config, local_files_only=True)
            )
        tensors = load_state_dict(file)
        require_shapes(file, shapes(unet.state_dict()), shapes(tensors))
        cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        unet.load_state_dict(cast, strict=True, assign=True)
    return unet.eval().requires_grad_(False)


def load_vae(folder: Path, dtype: torch.dtype) -> AutoencoderKL:
    """Stable Diffusion's VAE on the CPU, by diffusers, which knows its older key names."""
    with readable(folder):
        vae, fit = AutoencoderKL.from_pretrained(
            folder,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        require_fit(folder, fit["missing_keys"], fit["unexpected_keys"])
    return vae.requires_grad_(False)


def load_text_encoder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    """CLIP's text model on the CPU."""
    return from_folder(CLIPTextModel, folder, dtype, exact=True)


def load_vision_encoder(folder: Path, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
    """CLIP's vision model with its projection, on the CPU."""
    return from_folder(CLIPVisionModelWithProjection, folder, dtype, exact=True)


def load_ramp(base: Path, tokens: int) -> torch.Tensor:
    """Weight of CLIP's image embedding in each token of the prompt, (tokens, 1) float32."""
    path = base / "model_index.json"
    with readable(path):
        ramp = json.loads(path.read_text(encoding="utf-8"))["ramping_coefficients"]
        if len(ramp) != tokens:
            raise ValueError(f"{len(ramp)} ramping_coefficients for {tokens} tokens")
    return torch.tensor(ramp, dtype=torch.float32)[:, None]
