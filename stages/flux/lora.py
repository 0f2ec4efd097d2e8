"""LoRAs for the FLUX transformer: read, then merged into the weights or attached as an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stages.flux.bfl_keys import flat_layers, targets
from stages.models.lora import LoraFile, added_up, read_lora_file, unusable
from stages.models.lora_params import LoraChoice
from stages.streaming.delta import LowRankDelta
from stages.weights import catalogue

_ADAPTER = "kiss3d"


@dataclass(frozen=True)
class Lora:
    """layers: by diffusers' module name, float32, every factor in `up`.

    clip_layers  how many more layers of CLIP the files change: stage `encode` adds those
    t5_layers    how many of T5, which nobody adds, as in the reference
    """

    name: str
    layers: Mapping[str, LowRankDelta]
    clip_layers: int = 0
    t5_layers: int = 0

    def check(self, linear: Mapping[str, tuple[int, ...]]) -> None:
        """Raise StageError (missing_weights) unless each layer fits one of the net's.

        linear: (out, in) of the net's linear layers by name.
        """
        for name, layer in self.layers.items():
            wanted, found = linear.get(name), layer.shape
            if wanted is None:
                raise unusable(self.name, f"{name} is no layer of this transformer")
            if wanted != found:
                raise unusable(self.name, f"{name} is {found}, the transformer's is {wanted}")


def read_loras(choices: Sequence[LoraChoice]) -> Lora | None:
    """All LoRAs as one, or None without any.

    Raises StageError (missing_weights), also for layers that FLUX does not have.
    """
    if not choices:
        return None
    names = ", ".join(choice.weights for choice in choices)
    files = [
        read_lora_file(choice.weights, catalogue.find_file(choice.weights), choice.scale)
        for choice in choices
    ]
    try:
        layers = added_up([_layers(file) for file in files])
    except ValueError as error:
        raise unusable(names, str(error)) from error
    return Lora(
        names,
        layers,
        clip_layers=sum(len(file.layers["clip"]) for file in files),
        t5_layers=sum(len(file.layers["t5"]) for file in files),
    )


def _layers(file: LoraFile) -> dict[str, LowRankDelta]:
    """Those of the transformer, by diffusers' module name."""
    found = file.layers["transformer"]
    if not found:
        raise unusable(file.name, "it holds nothing for the transformer")
    known = flat_layers(found)
    layers: dict[str, LowRankDelta] = {}
    for flat, delta in found.items():
        if flat not in known:
            raise unusable(file.name, f"FLUX has no layer {flat}")
        for target, rows in targets(known[flat], delta.up):
            layers[target] = LowRankDelta(rows, delta.down)
    return layers


def attach(transformer: Any, lora: Lora, device: torch.device, dtype: torch.dtype) -> None:
    """Put the LoRA beside the layers (peft) of a transformer that may still be without weights."""
    state: dict[str, torch.Tensor] = {}
    for name, layer in lora.layers.items():
        state |= {f"{name}.lora_A.weight": layer.down, f"{name}.lora_B.weight": layer.up}
    transformer.load_lora_adapter(state, prefix=None, adapter_name=_ADAPTER, low_cpu_mem_usage=True)
    for name, layer in lora.layers.items():
        # peft moved them to where the layer's own weight is, in its dtype: meta, or float8.
        wrapped = transformer.get_submodule(name)
        for matrices, tensor in ((wrapped.lora_A, layer.down), (wrapped.lora_B, layer.up)):
            parameter = torch.nn.Parameter(tensor.to(device, dtype), requires_grad=False)
            matrices[_ADAPTER].register_parameter("weight", parameter)
