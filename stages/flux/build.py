"""A net from a checkpoint: made on the meta device, then filled tensor by tensor.

A mapped tensor that needs no conversion becomes the weight as it is, so a net that stays on the
host takes no RAM beyond the page cache, and one that goes to the device is never held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from stages.contract import StageError
from stages.flux import storage
from stages.flux.checkpoints import Checkpoint, is_gguf, shape_of
from stages.flux.lora import Lora, attach
from stages.models.lora import merged
from stages.streaming.delta import LowRankDelta
from stages.streaming.eight_bit import Kind, RoundingErrors, WeightRounder
from stages.streaming.eight_bit_linear import replace_linear
from stages.weights.checkpoint import require_shapes, shapes


@dataclass(frozen=True)
class Form:
    """How a net's weights are kept.

    dtype     what it computes in
    storage   of the linear layers inside blocks; the layers around the blocks stay in `dtype`
    device    where it computes
    home      where its weights are while it does not: `device`, or the CPU
    kind      of the eight bits that the blocks' linear layers multiply in; None: in `dtype`
    errors    told how far off eight bits put weights and activations
    """

    dtype: torch.dtype
    storage: storage.Storage
    device: torch.device
    home: torch.device
    kind: Kind | None = None
    errors: RoundingErrors = field(default_factory=RoundingErrors)


def build(
    model_class: Any,
    checkpoint: Checkpoint,
    form: Form,
    lora: Lora | None = None,
    merge_lora: bool = False,
) -> Any:
    """A `model_class` (of diffusers) with the checkpoint's weights at `form.home`, in eval mode.

    Raises StageError: missing_weights where weights or LoRA do not fit the class; bad_input where
    they cannot be merged.
    """
    model = empty(model_class, checkpoint)
    linear = storage.linear_layers(model)
    if lora is not None:
        lora.check({name: tuple(layer.weight.shape) for name, layer in linear.items()})
    deltas = lora.layers if lora is not None and merge_lora else {}
    small = storage.stored_small(linear, form.storage, checkpoint.float8_layers)
    eight_bit = storage.eight_bit_layers(linear) if form.kind is not None else frozenset()
    small -= eight_bit
    if form.storage == "file":
        small -= deltas.keys()  # no longer what the file has
    if checkpoint.is_gguf:
        if deltas:
            raise StageError(
                "bad_input",
                f"the GGUF weights {checkpoint.name} cannot be merged with a LoRA",
                "set lora_merge to false",
            )
        storage.gguf_layers(model, checkpoint.tensors, form.dtype)
        small = frozenset()
    if lora is not None and not merge_lora:
        # Before there are weights: peft gives its matrices the dtype of the layer's own.
        attach(model, lora, form.home, form.dtype)
    rounding = _Rounding(form, [linear[name] for name in eight_bit])
    if form.kind is not None:
        replace_linear(model, eight_bit, form.kind, form.errors)
    for name, tensor in checkpoint.tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "weight" and layer in eight_bit:
            rounding.fill(model.get_submodule(layer), tensor, deltas.get(layer))
            continue
        if leaf == "weight" and layer in deltas:
            tensor = merged(tensor, deltas[layer], form.device, form.dtype)
        storage.original_layer(model, layer).register_parameter(
            leaf, _parameter(tensor, form, layer in small)
        )
    model.requires_grad_(False)
    model.eval()
    storage.cast_layerwise(model, small, form.dtype)
    return model


class _Rounding:
    """Weights to eight bits, on the device that computes, one at a time."""

    def __init__(self, form: Form, layers: Sequence[torch.nn.Linear]) -> None:
        self._form = form
        if form.kind is not None:
            widest = max((layer.in_features for layer in layers), default=1)
            self._rounder = WeightRounder(form.device, form.kind, widest, form.errors)

    def fill(self, layer: Any, tensor: torch.Tensor, delta: LowRankDelta | None) -> None:
        """layer: an EightBitLinear on meta; tensor: its weight as the file has it."""
        form = self._form
        if delta is None:
            exact = tensor.to(form.device).to(form.dtype)
        else:
            exact = merged(tensor, delta, form.device, form.dtype)
        q = torch.empty(exact.shape, dtype=layer.weight.dtype, device=form.device)
        scale = torch.empty(exact.shape[0], dtype=torch.float32, device=form.device)
        self._rounder.round(exact, q, scale)
        for leaf, value in (("weight", q), ("scale", scale)):
            parameter = torch.nn.Parameter(value.to(form.home), requires_grad=False)
            layer.register_parameter(leaf, parameter)


def empty(model_class: Any, checkpoint: Checkpoint) -> Any:
    """The model on the meta device. Raises StageError (missing_weights) unless the weights fit."""
    with torch.device("meta"):
        model = model_class.from_config(dict(checkpoint.config))
    found = {name: shape_of(tensor) for name, tensor in checkpoint.tensors.items()}
    require_shapes(checkpoint.name, shapes(model.state_dict()), found)
    return model


def _parameter(tensor: torch.Tensor, form: Form, small: bool) -> torch.nn.Parameter:
    if is_gguf(tensor):
        return _gguf_parameter(tensor, form)
    tensor = tensor.to(form.home)  # by itself: `to` with a dtype would convert on the CPU first
    if not small:
        tensor = tensor.to(form.dtype)
    elif tensor.dtype is not storage.FP8:
        tensor = tensor.to(form.dtype).to(storage.FP8)
    return torch.nn.Parameter(tensor, requires_grad=False)


def _gguf_parameter(tensor: torch.Tensor, form: Form) -> torch.nn.Parameter:
    """Quantised weights of linear layers stay as they are; a quantised vector does not."""
    if tensor.ndim == 2:
        kept: torch.nn.Parameter = tensor.to(form.home)  # type: ignore[assignment]
        return kept
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    plain = dequantize_gguf_tensor(tensor).to(form.home, form.dtype)
    return torch.nn.Parameter(plain, requires_grad=False)
