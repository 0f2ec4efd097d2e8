"""LoRA files, whoever wrote them: which network and layer each pair of matrices is for.

A key is a prefix that names the network, a layer and a half of its pair. Layouts differ in all
three; the layer is given here in one form, with "_" between the parts of its name:

    lora_unet_double_blocks_0_img_mlp_0.lora_down.weight          kohya, FluxGym
    lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight   kohya, CLIP-L
    transformer.transformer_blocks.0.attn.to_q.lora_A.weight      diffusers
    text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight  diffusers, CLIP-L
    transformer.transformer_blocks.0.attn.to_q.lora.down.weight   diffusers, older
    diffusion_model.double_blocks.0.img_mlp.0.lora_A.weight       ai-toolkit, Comfy
    base_model.model.transformer_blocks.0.attn.to_q.lora_A.default.weight  PEFT
    lora_transformer_transformer_blocks_0_attn_to_q.lora_up.weight  OneTrainer
    lycoris_transformer_blocks_0_attn_to_q.lora_up.weight         SimpleTuner
    double_blocks.0.processor.qkv_lora1.down.weight               XLabs
    double_blocks.0.img_mlp.0.lora_A.weight                       no prefix
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from stages.contract import StageError
from stages.streaming.delta import LowRankDelta, Merger
from stages.weights.checkpoint import load_state_dict, metadata, misfit

Network = Literal["transformer", "clip", "t5"]

_PREFIXES: tuple[tuple[str, Network], ...] = (
    (r"lora_te1?_", "clip"),
    (r"text_encoder\.", "clip"),
    (r"lora_te[23]_", "t5"),
    (r"text_encoder_2\.", "t5"),
    (r"lora_unet_", "transformer"),
    (r"lora_transformer_", "transformer"),
    (r"lycoris_", "transformer"),
    (r"(model\.)?diffusion_model\.", "transformer"),
    (r"transformer\.", "transformer"),
    (r"(?=text_model[._])", "clip"),
)
"""The first that a key begins with says what it is for; without any, it is for the transformer."""
_OUTER = re.compile(r"base_model\.model\.")
"""PEFT's own wrapper, before any of the others."""
_PAIR = re.compile(
    r"(?P<layer>.+?)\.(lora_|lora\.)?(?P<half>A|B|down|up)(\.(?!weight)\w+)?\.weight"
)
_HALF = {"A": "down", "down": "down", "B": "up", "up": "up"}
_OTHERS = {
    r"dora_scale|lora_magnitude_vector": "a DoRA (its weights are scaled by column as well)",
    r"\.hada_w": "a LoHa",
    r"\.lokr_w": "a LoKr",
    r"\.oft_|\.boft_": "an OFT adapter",
    r"lora_mid|lora_t[12]": "a LoCon with a core tensor",
    r"\.bias$|\.diff_b$": "a LoRA with biases",
    r"\.diff$|\.set_weight$": "a file with whole differences of weights",
    r"_norm\.|\.norm\.|norm\.scale": "a file with weights of normalisations",
}
"""What a key that is no pair of matrices shows."""


@dataclass(frozen=True)
class LoraFile:
    """layers: of each network by layer name ("_" for "."), float32, every factor in `up`."""

    name: str
    layers: Mapping[Network, Mapping[str, LowRankDelta]]


def read_lora_file(name: str, path: Path, scale: float) -> LoraFile:
    """A LoRA file, multiplied by `scale` and by its own alpha / rank.

    name  what the user knows it by
    Where no tensor gives alpha, PEFT's settings do (in the file's header, or adapter_config.json
    beside it), else it is the rank. Raises StageError (missing_weights) for what is no plain LoRA.
    """
    declared = _declared(path)
    layers: dict[Network, dict[str, LowRankDelta]] = {"transformer": {}, "clip": {}, "t5": {}}
    for (network, layer), parts in _by_layer(name, load_state_dict(path)).items():
        if not {"down", "up"} <= set(parts):
            raise unusable(name, f"{layer} has one matrix of a pair only")
        down, up = _matrix(name, layer, parts["down"]), _matrix(name, layer, parts["up"])
        if up.shape[1] != down.shape[0]:
            raise unusable(name, f"the matrices of {layer} have ranks {up.shape[1]}, {len(down)}")
        rank = len(down)
        alpha = float(parts["alpha"]) if "alpha" in parts else declared.alpha(layer, rank)
        factor = scale * alpha / (rank**0.5 if declared.root_of_rank else rank)
        layers[network][layer] = LowRankDelta(up * factor, down)
    return LoraFile(name, layers)


def added_up(deltas: Iterable[Mapping[str, LowRankDelta]]) -> dict[str, LowRankDelta]:
    """The sum of several LoRAs as one: the pairs of a layer stand beside each other."""
    total: dict[str, LowRankDelta] = {}
    for layers in deltas:
        for layer, delta in layers.items():
            if (so_far := total.get(layer)) is not None:
                if so_far.shape != delta.shape:
                    raise ValueError(f"{layer}: {so_far.shape} and {delta.shape}")
                delta = LowRankDelta(
                    torch.cat([so_far.up, delta.up], dim=1),
                    torch.cat([so_far.down, delta.down], dim=0),
                )
            total[layer] = delta
    return total


def merged(
    weight: torch.Tensor, layer: LowRankDelta, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """The weight in `dtype` on `device`, with the layer added as streaming adds it: same bits."""
    # By itself: `to` with both would convert on the CPU first. A copy: merging is in place.
    weight = weight.to(device).to(dtype, copy=True)
    Merger(device, layer.shape[1]).merge(weight, layer.to(device))
    return weight


def unusable(name: str, what: str) -> StageError:
    """What is raised for a LoRA that cannot be merged."""
    return misfit(
        f"the LoRA {name}",
        what,
        "name a plain LoRA for FLUX.1-dev in the params lora or loras, or set its scale to 0",
    )


def _by_layer(
    name: str, tensors: Mapping[str, torch.Tensor]
) -> dict[tuple[Network, str], dict[str, torch.Tensor]]:
    found: dict[tuple[Network, str], dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if pair := _PAIR.fullmatch(key):
            layer, part = pair["layer"], _HALF[pair["half"]]
        elif key.endswith(".alpha"):
            layer, part = key.removesuffix(".alpha"), "alpha"
        else:
            what = next((what for sign, what in _OTHERS.items() if re.search(sign, key)), "")
            raise unusable(name, f"it is {what or 'no LoRA that is known'}, not read here: {key}")
        found.setdefault(_network_and_layer(layer), {})[part] = tensor
    return found


def _network_and_layer(layer: str) -> tuple[Network, str]:
    layer = _OUTER.sub("", layer, count=1)
    for prefix, network in _PREFIXES:
        if match := re.match(prefix, layer):
            return network, layer[match.end() :].replace(".", "_")
    return "transformer", layer.replace(".", "_")


def _matrix(name: str, layer: str, tensor: torch.Tensor) -> torch.Tensor:
    """float32; some trainers write a matrix as a 1 x 1 convolution."""
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        tensor = tensor[..., 0, 0]
    if tensor.ndim != 2:
        raise unusable(name, f"{layer} is not a pair of matrices")
    return tensor.float()


@dataclass(frozen=True)
class _Declared:
    """PEFT's settings of an adapter, as far as they scale it."""

    common: float | None = None
    by_pattern: tuple[tuple[str, float], ...] = ()
    root_of_rank: bool = False

    def alpha(self, layer: str, rank: int) -> float:
        """layer: with "_" between the parts of its name."""
        for pattern, alpha in self.by_pattern:
            if re.search(rf"(^|_){pattern.replace('.', '_')}$", layer):
                return alpha
        return rank if self.common is None else self.common


def _declared(path: Path) -> _Declared:
    """diffusers writes PEFT's settings into the header, below the network's name; PEFT beside."""
    beside = path.parent / "adapter_config.json"
    try:
        if header := metadata(path).get("lora_adapter_metadata"):
            prefix = "transformer."
            settings = {
                key.removeprefix(prefix): value for key, value in json.loads(header).items()
            }
        elif path.name.startswith("adapter_model") and beside.is_file():
            settings = json.loads(beside.read_text(encoding="utf-8"))
        else:
            return _Declared()
        return _from_settings(settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise unusable(str(path), f"its settings cannot be read: {error}") from error


def _from_settings(settings: Mapping[str, Any]) -> _Declared:
    alpha, patterns = settings.get("lora_alpha"), settings.get("alpha_pattern") or {}
    return _Declared(
        None if alpha is None else float(alpha),
        tuple((pattern, float(value)) for pattern, value in patterns.items()),
        bool(settings.get("use_rslora")),
    )
