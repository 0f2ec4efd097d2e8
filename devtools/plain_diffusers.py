"""FLUX as diffusers itself runs it, in one process: what encode and flux are held to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from diffusers import FlowMatchHeunDiscreteScheduler, FluxPriorReduxPipeline
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.functional import resize, to_tensor  # type: ignore[import-untyped]
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    SiglipImageProcessorPil,
    SiglipVisionModel,
    T5EncoderModel,
    T5TokenizerFast,
)

from devtools.tiny.flux import transformer

TEXT_TOKENS = 512
BUNDLE_PROMPT = "A grid of 2x4 multi-view image, elevation 5. White background."


def embeddings(
    models: Path, prompt: str, image: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """prompt_embeds (T, D) and pooled_embeds (P,) of FluxPriorReduxPipeline.

    image: (S, S, 3) uint8. The pipeline knows no strength; Redux's tokens come behind T5's.
    """
    text, redux = models / "flux1-dev-text", models / "flux1-redux"
    pipeline = FluxPriorReduxPipeline(
        SiglipVisionModel.from_pretrained(redux / "image_encoder"),
        SiglipImageProcessorPil.from_pretrained(redux / "feature_extractor"),
        ReduxImageEncoder.from_pretrained(redux / "image_embedder"),
        CLIPTextModel.from_pretrained(text / "text_encoder"),
        CLIPTokenizer.from_pretrained(text / "tokenizer"),
        T5EncoderModel.from_pretrained(text / "text_encoder_2"),
        T5TokenizerFast.from_pretrained(text / "tokenizer_2"),
    )
    # The processor of the reference's transformers made bytes of the tensor by truncation, and gave
    # these to Pillow.
    picture = (resize(to_tensor(image), [512, 512]).clamp(0, 1) * 255).byte()
    output = pipeline(
        Image.fromarray(picture.permute(1, 2, 0).numpy()),
        prompt=BUNDLE_PROMPT,
        prompt_2=f"{BUNDLE_PROMPT} {prompt}",
    )
    tokens = output.prompt_embeds[0].numpy().copy()
    tokens[TEXT_TOKENS:] *= strength
    return tokens, output.pooled_prompt_embeds[0].numpy()


def flux_pipeline(
    name: str, models: Path, monkeypatch: pytest.MonkeyPatch, **parts: Any
) -> diffusers.DiffusionPipeline:
    """diffusers' pipeline of this name with the tiny denoiser, its LoRA and Heun's scheduler.

    `models` holds the LoRA under the keys that diffusers takes at any width (`build_lora`).
    """
    cls = getattr(diffusers, name)
    monkeypatch.setattr(sys.modules[cls.__module__], "retrieve_timesteps", _heun_timesteps)
    denoiser = transformer()
    layers = load_file(models / "kiss3dgen-lora" / "rgb_normal.safetensors")
    denoiser.load_lora_adapter(layers, prefix="transformer")
    pipe = cls(
        scheduler=FlowMatchHeunDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKL.from_pretrained(models / "flux1-dev-vae" / "vae"),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=denoiser,
        **parts,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _heun_timesteps(scheduler: Any, steps: int, device: Any, **ignored: Any) -> tuple[Any, int]:
    """What the reference patches in, as Heun's set_timesteps takes neither sigmas nor mu."""
    scheduler.set_timesteps(steps, device=device)
    return scheduler.timesteps, steps
