"""What LoRAs change of CLIP-L: trainers like FluxGym train it beside the transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stages.models.lora import LoraFile, added_up, merged, read_lora_file, unusable
from stages.models.lora_params import LoraChoice
from stages.streaming.delta import LowRankDelta
from stages.weights import catalogue


def merge_loras(model: nn.Module, choices: Sequence[LoraChoice], dtype: torch.dtype) -> None:
    """Add the LoRAs' CLIP layers to a CLIPTextModel's, which are then kept in `dtype` on the CPU.

    Those that change nothing, because every `up` is zero as before training, are skipped. Raises
    StageError (missing_weights) for a file that is no LoRA, or one of another CLIP.
    """
    files = [
        read_lora_file(choice.weights, catalogue.find_file(choice.weights), choice.scale)
        for choice in choices
    ]
    linear = {
        _flat(name): layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
    }
    parts = [_by_own_name(file) for file in files]
    for file, layers in zip(files, parts, strict=True):
        for name, delta in layers.items():
            layer = linear.get(name)
            if layer is None:
                raise unusable(file.name, f"CLIP-L has no layer {name}")
            if delta.shape != tuple(layer.weight.shape):
                raise unusable(
                    file.name, f"{name} is {delta.shape}, CLIP-L's is {tuple(layer.weight.shape)}"
                )
    for name, delta in added_up(parts).items():
        weight = merged(linear[name].weight.data, delta, torch.device("cpu"), dtype)
        linear[name].weight.data = weight


def _by_own_name(file: LoraFile) -> dict[str, LowRankDelta]:
    layers = file.layers["clip"]
    if not any(bool(delta.up.any()) for delta in layers.values()):
        return {}
    return {_flat(name): delta for name, delta in layers.items()}


def _flat(name: str) -> str:
    """A layer's name without the prefix that transformers drops in some versions."""
    return name.replace(".", "_").removeprefix("text_model_")
