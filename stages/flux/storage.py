"""Weights kept in fewer bits than they are computed in: in float8, or as a GGUF file has them.

Rounding to float8 is lossy; keeping what a file has in float8 as it is, is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch

from stages.flux.blocks import FLUX_BLOCKS

Storage = Literal["full", "file", "fp8"]

FP8 = torch.float8_e4m3fn
_BLOCKS = (
    "transformer_blocks.",
    "single_transformer_blocks.",
    "controlnet_blocks.",
    "controlnet_single_blocks.",
)


def linear_layers(model: Any) -> dict[str, torch.nn.Linear]:
    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


def original_layer(model: Any, name: str) -> Any:
    """The layer of a checkpoint's name; peft puts one that has an adapter a level down."""
    layer = model.get_submodule(name)
    return getattr(layer, "base_layer", layer)


def stored_small(
    names: Collection[str], storage: Storage, float8_layers: Collection[str]
) -> frozenset[str]:
    """Which linear layers `storage` keeps small: of those in blocks; what is around them stays.

    file takes those that the file has in float8. fp8 takes these, and all but the modulation layers
    (norm*.linear), which diffusers leaves alone as well. Their biases go with them.
    """
    blocks = frozenset(name for name in names if name.startswith(_BLOCKS))
    exact = blocks & frozenset(float8_layers)
    if storage == "fp8":
        return exact | {name for name in blocks if "norm" not in name}
    return exact if storage == "file" else frozenset()


def eight_bit_layers(names: Collection[str]) -> frozenset[str]:
    """Which linear layers multiply in eight bits: of the blocks, all but the modulation layers.

    Embeddings, the last layers, and the ControlNet's projections to its outputs stay as they are.
    """
    blocks = tuple(f"{name}." for name in FLUX_BLOCKS)
    return frozenset(name for name in names if name.startswith(blocks) and "norm" not in name)


def cast_layerwise(model: Any, names: Collection[str], dtype: torch.dtype) -> None:
    """Have the named layers, which are in float8, cast to `dtype` for as long as they compute."""
    from diffusers.hooks.layerwise_casting import apply_layerwise_casting_hook

    for name in names:
        layer = original_layer(model, name)
        apply_layerwise_casting_hook(layer, FP8, dtype, non_blocking=True)


def gguf_layers(model: Any, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Put diffusers' GGUF layers in the place of those whose tensors are quantised."""
    from diffusers import GGUFQuantizationConfig
    from diffusers.quantizers import DiffusersAutoQuantizer

    quantizer = DiffusersAutoQuantizer.from_config(GGUFQuantizationConfig(compute_dtype=dtype))
    quantizer.preprocess_model(
        model, device_map=None, keep_in_fp32_modules=[], state_dict=dict(tensors)
    )
