"""A LoRA for the FLUX transformer: read, then merged into the weights or attached as an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stages import weights
from stages.common.checkpoint import load_state_dict, misfit
from stages.common.streaming.delta import LowRankDelta, Merger
from stages.contract import StageError
from stages.flux.bfl_keys import kohya_layers, split_rows

_TEXT_ENCODER = re.compile(r"lora_te\d?_|text_encoder(_2)?\.")
_KOHYA = re.compile(r"lora_unet_(?P<layer>.+)\.(?P<part>lora_down\.weight|lora_up\.weight|alpha)")
_DIFFUSERS = re.compile(
    r"transformer\.(?P<layer>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|alpha)"
)
_PARTS = {"lora_down.weight": "down", "lora_A.weight": "down", "lora_up.weight": "up"}
_PARTS |= {"lora_B.weight": "up", "alpha": "alpha"}
_ADAPTER = "kiss3d"


@dataclass(frozen=True)
class Lora:
    """layers: by diffusers' module name, float32, every factor in `up`.

    text_encoder_keys: how many tensors were for CLIP or T5, which this stage does not run.
    """

    name: str
    layers: Mapping[str, LowRankDelta]
    text_encoder_keys: int = 0

    def check(self, linear: Mapping[str, tuple[int, ...]]) -> None:
        """Raise StageError (missing_weights) unless each layer fits one of the net's.

        linear: (out, in) of the net's linear layers by name.
        """
        for name, layer in self.layers.items():
            wanted, found = linear.get(name), layer.shape
            if wanted is None:
                raise _unusable(self.name, f"{name} is no layer of this transformer")
            if wanted != found:
                raise _unusable(self.name, f"{name} is {found}, the transformer's is {wanted}")


def read_lora(name: str, scale: float) -> Lora:
    """A LoRA file with kohya's or diffusers' keys, multiplied by `scale` and its own alpha / rank.

    Raises StageError (missing_weights), also for keys that are neither.
    """
    tensors = load_state_dict(weights.find_file(name))
    foreign = [key for key in tensors if _TEXT_ENCODER.match(key)]
    for key in foreign:
        del tensors[key]
    flat = kohya_layers(tensors)
    layers: dict[str, LowRankDelta] = {}
    for layer, parts in _by_layer(name, tensors).items():
        if not {"down", "up"} <= set(parts) or parts["down"].ndim != 2:
            raise _unusable(name, f"{layer} is not a pair of matrices")
        down, up = parts["down"].float(), parts["up"].float()
        alpha = float(parts["alpha"]) if "alpha" in parts else float(down.shape[0])
        up = up * (scale * alpha / down.shape[0])
        if not layer.startswith("lora_unet_"):
            layers[layer] = LowRankDelta(up, down)
            continue
        bfl = flat.get(layer.removeprefix("lora_unet_"))
        if bfl is None:
            raise _unusable(name, f"FLUX has no layer {layer}")
        for target, rows in split_rows(bfl, up):
            layers[target] = LowRankDelta(rows, down)
    if not layers:
        raise _unusable(name, "it holds nothing for the transformer")
    return Lora(name, layers, len(foreign))


def merged(
    weight: torch.Tensor, layer: LowRankDelta, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """The weight in `dtype` on `device`, with the layer added as streaming adds it: same bits."""
    # By itself: `to` with both would convert on the CPU first. A copy: merging is in place.
    weight = weight.to(device).to(dtype, copy=True)
    Merger(device, layer.shape[1]).merge(weight, layer.to(device))
    return weight


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


def _by_layer(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        found = _KOHYA.fullmatch(key)
        layer = f"lora_unet_{found['layer']}" if found else ""
        if found is None:
            found = _DIFFUSERS.fullmatch(key)
            layer = found["layer"] if found else ""
        if found is None:
            raise _unusable(name, f"the key {key} is neither kohya's nor diffusers'")
        layers.setdefault(layer, {})[_PARTS[found["part"]]] = tensor
    return layers


def _unusable(name: str, what: str) -> StageError:
    return misfit(
        f"the LoRA {name}",
        what,
        "set the param lora to a LoRA for FLUX.1-dev's transformer, or lora_scale to 0",
    )
