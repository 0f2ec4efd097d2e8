"""Weights kept in fewer bits than they are computed in: float8 and nf4.

Rounding to them is lossy; keeping what a file has in float8 as it is, is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch

from stages.contract import StageError

Storage = Literal["full", "file", "fp8", "nf4"]

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
    (norm*.linear), which diffusers leaves alone as well. nf4 takes all. Their biases go with them,
    except in nf4.
    """
    blocks = frozenset(name for name in names if name.startswith(_BLOCKS))
    exact = blocks & frozenset(float8_layers)
    if storage == "fp8":
        return exact | {name for name in blocks if "norm" not in name}
    return {"full": frozenset(), "file": exact, "nf4": blocks}[storage]


def cast_layerwise(model: Any, names: Collection[str], dtype: torch.dtype) -> None:
    """Have the named layers, which are in float8, cast to `dtype` for as long as they compute."""
    from diffusers.hooks.layerwise_casting import apply_layerwise_casting_hook

    for name in names:
        layer = original_layer(model, name)
        apply_layerwise_casting_hook(layer, FP8, dtype, non_blocking=True)


def replace_by_nf4(model: Any, names: Collection[str], dtype: torch.dtype) -> None:
    """Put bitsandbytes' 4-bit layers, still without weights, in the place of the named ones.

    Raises StageError (missing_dependency).
    """
    bitsandbytes = _bitsandbytes()
    for name in names:
        layer = model.get_submodule(name)
        with torch.device("meta"):
            packed = bitsandbytes.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                layer.bias is not None,
                compute_dtype=dtype,
                quant_type="nf4",
            )
        model.set_submodule(name, packed)


def nf4_parameter(weight: torch.Tensor, device: torch.device) -> torch.nn.Parameter:
    """A weight packed to 4 bits; bitsandbytes packs on the way to the device."""
    packed = _bitsandbytes().nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    moved: torch.nn.Parameter = packed.to(device)
    return moved


def gguf_layers(model: Any, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Put diffusers' GGUF layers in the place of those whose tensors are quantised."""
    from diffusers import GGUFQuantizationConfig
    from diffusers.quantizers import DiffusersAutoQuantizer

    quantizer = DiffusersAutoQuantizer.from_config(GGUFQuantizationConfig(compute_dtype=dtype))
    quantizer.preprocess_model(
        model, device_map=None, keep_in_fp32_modules=[], state_dict=dict(tensors)
    )


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError as error:
        raise StageError(
            "missing_dependency",
            f"storage nf4 needs bitsandbytes: {error}",
            "pip install kiss3d-orchestrate[nf4]",
        ) from error
    return bitsandbytes
