"""Transformer and ControlNet as modules that are in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch

from stages.flux.build import Form, build
from stages.flux.checkpoints import open_folder, open_transformer
from stages.flux.lora import Lora
from stages.flux.networks import FluxControlNetModel, FluxTransformer2DModel
from stages.flux.params import FluxParams
from stages.flux.placement import home_of, place
from stages.streaming.eight_bit import Kind, RoundingErrors

Embeddings = Callable[[Any], Sequence[torch.Tensor]]
"""A net -> what its AdaLN layers are given at each noise level of the job."""


class Nets(Protocol):
    """transformer: FluxTransformer2DModel; controlnet: FluxControlNetModel, None without controls.

    note   what the user should know of how they run, "" if nothing
    errors how far off eight bits put weights and activations
    hooked what casts or unpacks weights within blocks, so that they cannot be compiled, "" if
           nothing does
    """

    transformer: Any
    controlnet: Any
    note: str
    errors: RoundingErrors
    hooked: str

    def on_device(self, embeddings: Embeddings) -> AbstractContextManager[None]:
        """While it is entered, both can be called."""

    def expect(self, controls: int, level: int, first_apart: bool = False) -> None:
        """Tell how often the next evaluation calls the ControlNet, and whether the first blocks of
        both nets run before the others, which only matters for speed; and which of the embeddings
        it has."""

    def skipped(self) -> None:
        """Tell that of this evaluation no more blocks will run."""

    def close(self) -> None:
        """Give what they hold back; once at the end."""


class WholeNets:
    """For placements resident and model."""

    note = ""

    def __init__(
        self,
        params: FluxParams,
        device: torch.device,
        dtype: torch.dtype,
        lora: Lora | None,
        kind: Kind | None = None,
    ) -> None:
        """kind: of eight bits to multiply in, which merges the LoRA whatever the params say.

        Raises StageError: missing_weights, bad_input, missing_dependency.
        """
        self.errors = RoundingErrors()
        self.hooked = ""
        if params.is_gguf:
            self.hooked = "GGUF weights are unpacked as they are used"
        elif params.storage != "full" and kind is None:
            self.hooked = f"with storage {params.storage}, weights are cast as they are used"
        home = home_of(params.placement, device)
        form = Form(dtype, params.storage, device, home, kind, self.errors)
        checkpoint = open_transformer(params.transformer)
        merge = params.lora_merge or kind is not None
        self.transformer = build(FluxTransformer2DModel, checkpoint, form, lora, merge)
        self.controlnet: Any = None
        if params.active_controls:
            checkpoint = open_folder(params.controlnet_weights)
            self.controlnet = build(FluxControlNetModel, checkpoint, form)
        nets = [net for net in (self.transformer, self.controlnet) if net is not None]
        self._placed = [place(net, params.placement, device) for net in nets]

    @contextmanager
    def on_device(self, embeddings: Embeddings) -> Iterator[None]:
        with ExitStack() as stack:
            for placed in self._placed:
                stack.enter_context(placed.on_device())
            yield

    def expect(self, controls: int, level: int, first_apart: bool = False) -> None:
        """Nothing is fetched or computed ahead."""

    def skipped(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """The process holds nothing beside the modules."""
