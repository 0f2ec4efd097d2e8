"""Random checkpoints of Zero123++ v1.2 and FlexGen's UNet.

Folders, file names, key names and configs are the published ones; sizes are an argument, so the
memory bench builds the full model with the same code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

SCHEDULER = {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "linspace",
    "trained_betas": None,
}
VOCABULARY = ("!", '"', "#", "a", "b", "ab", "<|startoftext|>", "<|endoftext|>")
SPECIAL_TOKENS = {
    "bos_token": {"content": "<|startoftext|>", "lstrip": False, "normalized": True},
    "eos_token": {"content": "<|endoftext|>", "lstrip": False, "normalized": True},
    "pad_token": "!",
    "unk_token": {"content": "<|endoftext|>", "lstrip": False, "normalized": True},
}


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks; the defaults are tiny."""

    unet: Mapping[str, Any] = field(
        default_factory=lambda: {
            "sample_size": 8,
            "block_out_channels": [8, 16],
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
            "layers_per_block": 1,
            "cross_attention_dim": 16,
            "attention_head_dim": [2, 4],
            "norm_num_groups": 4,
            "use_linear_projection": True,
        }
    )
    vae: Mapping[str, Any] = field(
        default_factory=lambda: {
            "sample_size": 64,
            "block_out_channels": [8, 8, 8, 8],
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "latent_channels": 4,
            "scaling_factor": 0.18215,
        }
    )
    text: Mapping[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 7,
            "vocab_size": len(VOCABULARY),
            "hidden_act": "gelu",
            # What Stable Diffusion 2 publishes, although its tokenizer says otherwise.
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        }
    )
    vision: Mapping[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "projection_dim": 16,
            "hidden_act": "gelu",
        }
    )
    vae_side: int = 64


TINY = Architecture()

PUBLISHED = Architecture(
    unet={
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "norm_num_groups": 32,
        "use_linear_projection": True,
    },
    vae={
        "sample_size": 768,
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    },
    text={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "hidden_act": "gelu",
    },
    vision={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "projection_dim": 1024,
        "hidden_act": "gelu",
    },
    vae_side=512,
)
"""The published sizes: what the memory bench builds."""


def build_zero123plus(
    folder: Path, sizes: Architecture = TINY, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Path:
    """Everything that the stage reads of sudo-ai/zero123plus-v1.2. Returns its folder."""
    base = folder / "zero123plus"
    unet, vae, text, vision = meta_networks(sizes)
    vae.save_config(base / "vae")
    unet.save_config(base / "unet")
    for part, model in (("text_encoder", text), ("vision_encoder", vision)):
        model.config.save_pretrained(base / part)
    states = {
        "vae/diffusion_pytorch_model": random_state(vae, dtype, seed),
        "text_encoder/model": _published_text_keys(random_state(text, dtype, seed + 1)),
        "vision_encoder/model": random_state(vision, dtype, seed + 2),
    }
    for name, state in states.items():
        save_file(state, base / f"{name}.safetensors", metadata={"format": "pt"})
    _write_tokenizer(base / "tokenizer", sizes.text["vocab_size"])
    _write_json(base / "scheduler/scheduler_config.json", SCHEDULER)
    _write_json(base / "feature_extractor_vae/preprocessor_config.json", _vae_extractor(sizes))
    _write_json(base / "feature_extractor_clip/preprocessor_config.json", _clip_extractor(sizes))
    tokens = sizes.text["max_position_embeddings"]
    ramp = torch.linspace(0.25, 1.2, tokens).tolist()
    _write_json(
        base / "model_index.json",
        {"_class_name": ["pipeline", "Zero123PlusPipeline"], "ramping_coefficients": ramp},
    )
    return base


def build_flexgen(
    folder: Path, sizes: Architecture = TINY, dtype: torch.dtype = torch.float16, seed: int = 10
) -> Path:
    """FlexGen's UNet, a bare state dict in a .ckpt. Returns the file."""
    unet = meta_networks(sizes)[0]
    file = folder / "flexgen" / "flexgen.ckpt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(random_state(unet, dtype, seed), file)
    return file


def meta_networks(
    sizes: Architecture,
) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPVisionModelWithProjection]:
    """All four, without any memory."""
    with torch.device("meta"):
        return (
            UNet2DConditionModel(**sizes.unet),
            AutoencoderKL(**sizes.vae),
            CLIPTextModel(CLIPTextConfig(**sizes.text)),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes.vision)),
        )


def random_state(model: torch.nn.Module, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    """Random values for a model on the meta device.

    Matrices keep the size of what goes through them (std = fan_in^-1/2), so a deep network of any
    width gives finite numbers of order 1, in half precision too.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1 and name.endswith(".weight"):
            value = torch.ones(tensor.shape)
        else:
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
            value = torch.randn(tensor.shape, generator=generator) * fan_in**-0.5
        state[name] = value.to(dtype)
    return state


def _published_text_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The prefix of the published file, which this transformers may not have."""
    prefix = "text_model."
    return {prefix + name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _write_tokenizer(folder: Path, size: int) -> None:
    """Special tokens last, as in CLIP's own vocabulary; what is between does not matter here."""
    words = [*VOCABULARY[:-2], *(f"word{i}" for i in range(size - len(VOCABULARY)))]
    vocabulary = {word: i for i, word in enumerate([*words, *VOCABULARY[-2:]])}
    _write_json(folder / "vocab.json", vocabulary)
    _write_json(folder / "special_tokens_map.json", SPECIAL_TOKENS)
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"},
    )
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")


def _vae_extractor(sizes: Architecture) -> dict[str, Any]:
    """As published: one number for all channels, unlike `_clip_extractor`'s lists."""
    return {**_extractor(sizes.vae_side), "image_mean": 0.5, "image_std": 0.8, "resample": 2}


def _clip_extractor(sizes: Architecture) -> dict[str, Any]:
    return {
        **_extractor(sizes.vision["image_size"]),
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
    }


def _extractor(side: int) -> dict[str, Any]:
    steps = ("center_crop", "convert_rgb", "normalize", "rescale", "resize")
    return {
        "crop_size": {"height": side, "width": side},
        "size": {"shortest_edge": side},
        "image_processor_type": "CLIPImageProcessor",
        "rescale_factor": 1 / 255,
        **{f"do_{step}": True for step in steps},
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))
