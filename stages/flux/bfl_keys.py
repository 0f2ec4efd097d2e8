"""Names of FLUX's layers in Black Forest Labs' layout -> diffusers' names.

Single-file checkpoints (Comfy's too), GGUF files and many LoRAs use BFL's layout, which stacks the
rows of q, k and v (and of the MLP in single blocks) in one layer. One table serves all: it maps a
layer to diffusers' layers and the rows that each gets. `processor...` are the names that XLabs'
LoRAs have for some of the same layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import torch

_MLP_RATIO = 4
"""linear1 of a single block: q, k, v and an MLP of this width."""

_GLOBAL: Mapping[str, str] = MappingProxyType(
    {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
        "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
        "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
        "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
        "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
        "final_layer.linear": "proj_out",
    }
)
SWAPPED, SWAPPED_TARGET = "final_layer.adaLN_modulation.1", "norm_out.linear"
"""BFL: rows of the shift above those of the scale; diffusers: below."""

_DOUBLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "img_mod.lin": ("norm1.linear",),
        "txt_mod.lin": ("norm1_context.linear",),
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn.norm.query_norm": ("attn.norm_q",),
        "img_attn.norm.key_norm": ("attn.norm_k",),
        "txt_attn.norm.query_norm": ("attn.norm_added_q",),
        "txt_attn.norm.key_norm": ("attn.norm_added_k",),
        "img_attn.proj": ("attn.to_out.0",),
        "txt_attn.proj": ("attn.to_add_out",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "processor.qkv_lora1": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "processor.qkv_lora2": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "processor.proj_lora1": ("attn.to_out.0",),
        "processor.proj_lora2": ("attn.to_add_out",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
    }
)
_SINGLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "modulation.lin": ("norm.linear",),
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "processor.qkv_lora": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "processor.proj_lora": ("proj_out",),
        "linear2": ("proj_out",),
        "norm.query_norm": ("attn.norm_q",),
        "norm.key_norm": ("attn.norm_k",),
    }
)
LEAVES = {"weight": "weight", "bias": "bias", "scale": "weight"}
"""The last part of a name: BFL's -> diffusers'."""

_STACKS = {"double_blocks": ("transformer_blocks", _DOUBLE)}
_STACKS["single_blocks"] = ("single_transformer_blocks", _SINGLE)


def layer_rows(layer: str, rows: int) -> Iterator[tuple[str, slice]]:
    """diffusers' layers, each with the part of a BFL layer's rows (dimension 0) that it gets.

    `SWAPPED` is not told by slices. Raises `KeyError` for a layer that FLUX does not have.
    """
    if layer in _GLOBAL:
        yield _GLOBAL[layer], slice(0, rows)
        return
    found = re.fullmatch(r"(double_blocks|single_blocks)\.(\d+)\.(.+)", layer)
    if found is None:
        raise KeyError(layer)
    stack, targets = _STACKS[found[1]]
    names = targets[found[3]]
    start, shares = 0, _shares(found[3], len(names))
    for name, share in zip(names, shares, strict=True):
        stop = start + rows * share // sum(shares)
        yield f"{stack}.{found[2]}.{name}", slice(start, stop)
        start = stop


def split_rows(layer: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """diffusers' layers, each with its rows of a BFL layer's tensor.

    The parts are views, except where BFL orders the rows otherwise. Raises `KeyError` for a layer
    that FLUX does not have.
    """
    if layer == SWAPPED:
        shift, scale = tensor.chunk(2)
        yield SWAPPED_TARGET, torch.cat([scale, shift])
        return
    for name, rows in layer_rows(layer, tensor.shape[0]):
        yield name, tensor[rows]


def _shares(layer: str, count: int) -> tuple[int, ...]:
    return (1, 1, 1, _MLP_RATIO) if layer == "linear1" else (1,) * count


def to_diffusers(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A transformer's state dict with BFL's keys -> one with diffusers' keys.

    Raises `KeyError` with the first key that FLUX does not have.
    """
    converted = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        try:
            ours = LEAVES[leaf]
            parts = list(split_rows(layer, tensor))
        except (KeyError, IndexError):  # a scalar is no weight of FLUX's either
            raise KeyError(key) from None
        converted.update({f"{name}.{ours}": part for name, part in parts})
    return converted


def flat_layers(flat: Iterable[str]) -> dict[str, str]:
    """Layer names with "_" for "." -> layers of BFL's layout or of diffusers', in their own form.

    Of the blocks that the names in `flat` speak of, and the layers around the blocks.
    """
    layers = [*_GLOBAL, *_GLOBAL.values(), SWAPPED, SWAPPED_TARGET]
    for stack, number in {
        (found[1], found[2])
        for name in flat
        if (found := re.match(r"(double_blocks|single_blocks)_(\d+)_", name))
    }:
        layers += [f"{stack}.{number}.{name}" for name in _STACKS[stack][1]]
    ours = dict(_STACKS.values())
    for stack, number in {
        (found[1], found[2])
        for name in flat
        if (found := re.match(r"((?:single_)?transformer_blocks)_(\d+)_", name))
    }:
        names = {name for targets in ours[stack].values() for name in targets}
        layers += [f"{stack}.{number}.{name}" for name in names]
    return {layer.replace(".", "_"): layer for layer in layers}


def targets(layer: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """As `split_rows`; a layer with diffusers' name already gets all rows."""
    if layer in _GLOBAL or layer == SWAPPED or layer.startswith(tuple(_STACKS)):
        return split_rows(layer, tensor)
    return iter([(layer, tensor)])
