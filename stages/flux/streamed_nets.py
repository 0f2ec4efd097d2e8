"""Transformer and ControlNet whose blocks come to the device when they compute (docs/streaming.md).

A LoRA is merged on the way, whatever `lora_merge` says: an adapter's layers would have to stream
as well. Blocks on the device and in host memory are chosen once, at load, for the params' size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.contract import Context
from stages.flux import budget
from stages.flux.autoencoder import fast_decode_bytes
from stages.flux.blocks import CONTROLNET_BLOCKS, FLUX_BLOCKS, FLUX_ONCE
from stages.flux.lora import Lora
from stages.flux.nets import Embeddings
from stages.flux.networks import FluxControlNetModel, FluxTransformer2DModel
from stages.flux.params import PATCH, FluxParams
from stages.flux.ranges import RangedCheckpoint, folder_ranges, transformer_ranges
from stages.flux.storage import linear_layers
from stages.streaming.eight_bit import Kind
from stages.streaming.models import stream
from stages.streaming.net import Net

TEXT_TOKENS = 512 + 729
"""The most that `encode` makes: T5's and Redux's. More need more memory than is planned for."""


class StreamedNets:
    """For placement streamed. See `nets.Nets`."""

    hooked = ""

    def __init__(
        self,
        params: FluxParams,
        context: Context,
        dtype: torch.dtype,
        lora: Lora | None,
        kind: Kind | None = None,
    ) -> None:
        """kind: of eight bits to multiply in.

        Raises StageError: missing_weights, bad_input, out_of_memory for too small a budget.
        """
        checkpoint = transformer_ranges(params.transformer)
        self.transformer = _empty(FluxTransformer2DModel, checkpoint)
        deltas = {}
        if lora is not None:
            linear = linear_layers(self.transformer)
            lora.check({name: tuple(layer.weight.shape) for name, layer in linear.items()})
            deltas = {f"{name}.weight": layer for name, layer in lora.layers.items()}
        self.controlnet: Any = None
        nets = {}
        if params.active_controls:
            control = folder_ranges(params.controlnet_weights)
            self.controlnet = _empty(FluxControlNetModel, control)
            nets["controlnet"] = Net(
                self.controlnet, control.tensors, CONTROLNET_BLOCKS, once=FLUX_ONCE
            )
        nets["transformer"] = Net(
            self.transformer,
            checkpoint.tensors,
            FLUX_BLOCKS,
            deltas,
            checkpoint.given,
            FLUX_ONCE,
        )
        self._device = torch.device(context.device)
        limits = budget.plan_budget(context, self._activations(params, dtype, kind))
        self.streamed = stream(
            nets,
            vram_bytes=limits.weights,
            host_bytes=limits.host,
            device=self._device,
            dtype=dtype,
            storage="fp8" if params.storage == "fp8" else "full",
            kind=kind,
            enter_card=False,
            embeddings=params.steps,
        )
        self.note, self.errors = self.streamed.note, self.streamed.errors
        decode = fast_decode_bytes(params.height, params.width, dtype)
        self._stays = self.streamed.plan.card_bytes + decode <= limits.device
        self._expected: tuple[int, bool] | None = None

    @contextmanager
    def on_device(self, embeddings: Embeddings) -> Iterator[None]:
        """Afterwards the device is the autoencoder's, unless it has room for all."""
        try:
            self.streamed.enter_card(lambda name: embeddings(getattr(self, name)))
            self._expected = None
            yield
        except BaseException:
            self._leave()
            raise
        if not self._stays:
            self._leave()

    def expect(self, controls: int, level: int, first_apart: bool = False) -> None:
        self.streamed.choose(level)
        if (controls, first_apart) != self._expected:
            self._expected = controls, first_apart
            self._expect()

    def skipped(self) -> None:
        self._expect()

    def _expect(self) -> None:
        assert self._expected is not None
        controls, first_apart = self._expected
        if not first_apart:
            self.streamed.expect(*["controlnet"] * controls, "transformer")
            return
        parts: list[tuple[str, Iterable[int]]] = [("transformer", [0])]
        rest: list[tuple[str, Iterable[int]]] = [
            ("transformer", range(1, self.streamed.blocks("transformer")))
        ]
        if controls:
            # Its blocks, then the projections to its outputs: the first of both.
            of_control = range(self.streamed.blocks("controlnet"))
            first = [0, len(of_control) // 2]
            others = [number for number in of_control if number not in first]
            parts = [*[("controlnet", first)] * controls, *parts]
            rest = [*[("controlnet", others)] * controls, *rest]
        self.streamed.expect_blocks(*parts, *rest)

    def close(self) -> None:
        self.streamed.close()

    def _leave(self) -> None:
        self.streamed.leave_card()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _activations(self, params: FluxParams, dtype: torch.dtype, kind: Kind | None) -> int:
        config = self.transformer.config
        residuals = 0
        if len(params.active_controls) > 1:
            residuals = self.controlnet.config.num_layers + self.controlnet.config.num_single_layers
        return budget.activation_bytes(
            config.num_attention_heads * config.attention_head_dim,
            params.height * params.width // PATCH**2,
            TEXT_TOKENS,
            dtype.itemsize,
            residuals,
            kind is not None,
            params.cache > 0,
        )


def _empty(model_class: Any, checkpoint: RangedCheckpoint) -> Any:
    with torch.device("meta"):
        model = model_class.from_config(dict(checkpoint.config))
    return model.requires_grad_(False).eval()
