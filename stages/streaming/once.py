"""Linear layers whose inputs are known before the first evaluation: computed once a job.

FLUX's blocks turn one vector, the embedding of noise level, guidance and prompt, into their
shifts, scales and gates (AdaLN: Peebles and Xie, "Scalable Diffusion Models with Transformers",
2023). These layers are 27 % of all weights, and a job has one vector a noise level, twenty or so.
So their weights pass through the card once, and evaluations look up what they gave: neither the
card nor host memory holds them, and no evaluation waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import linear

from stages.contract import StageError
from stages.streaming.filling import Filler, device_deltas
from stages.streaming.images import read_images
from stages.streaming.lanes import Lanes
from stages.streaming.layout import BlockLayout
from stages.streaming.net import Net, tensor_plans
from stages.streaming.reader import FileReader


class Lookup(nn.Module):
    """Stands where a linear layer was: gives what it gave for the current one of its inputs."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.out_features = layer.out_features
        self.current = 0
        self._outputs: list[torch.Tensor] = []

    def fill(
        self, inputs: Sequence[torch.Tensor], weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        """One by one: a product of them all would add up in another order."""
        self._outputs = [linear(vector, weight, bias) for vector in inputs]

    def clear(self) -> None:
        self._outputs = []

    def forward(self, _vector: torch.Tensor) -> torch.Tensor:
        return self._outputs[self.current]


@dataclass(frozen=True)
class _Group:
    """A block's layers: where their weights are in its layout (bias: None without), and lookups."""

    layout: BlockLayout
    lookups: Sequence[tuple[Lookup, int, int | None]]


class OnceLayers:
    """A network's layers of `Net.once`, each replaced by a `Lookup`."""

    def __init__(self, net: Net, dtype: torch.dtype) -> None:
        """Changes the network: its blocks do not have these layers' parameters any more."""
        self._dtype = dtype
        self._inputs: list[torch.Tensor] = []
        self._current = 0
        self._groups: list[_Group] = []
        for list_name in net.block_lists:
            for number, block in net.module.get_submodule(list_name).named_children():
                self._take(net, f"{list_name}.{number}", block)
        if self._groups:
            first, *_ = self._groups[0].lookups
            first[0].register_forward_pre_hook(self._compare)

    @property
    def layouts(self) -> list[BlockLayout]:
        return [group.layout for group in self._groups]

    def table_bytes(self, inputs: int) -> int:
        """Of the outputs for so many inputs, on the card."""
        numbers = sum(lookup.out_features for group in self._groups for lookup, *_ in group.lookups)
        return inputs * numbers * self._dtype.itemsize

    @torch.no_grad()
    def compute(
        self,
        inputs: Sequence[torch.Tensor],
        reader: FileReader,
        filler: Filler,
        lanes: Lanes,
        device: torch.device,
    ) -> None:
        """Read the layers' weights, and keep what they give for each of the inputs.

        inputs: (1, d) in the computing dtype, on the device, the same for all layers. Takes the
        largest block's layers on the device meanwhile: where the tiers are filled already, of the
        room that activations have later. Raises StageError (missing_weights).
        """
        self._inputs = list(inputs)
        size = max((layout.slot.nbytes for layout in self.layouts), default=0)
        memory = torch.empty(size, dtype=torch.uint8, device=device)
        for group, image in zip(self._groups, read_images(reader, self.layouts), strict=True):
            layout = group.layout
            filler.from_file(layout, image, memory, device_deltas(layout, device))
            for lookup, weight, bias in group.lookups:
                lookup.fill(
                    self._inputs,
                    layout.slot.view(memory, weight),
                    None if bias is None else layout.slot.view(memory, bias),
                )
            # The image's buffer is read into again: the copy from it must be over.
            lanes.settle()

    def choose(self, number: int) -> None:
        """Tell which input comes next."""
        self._current = number
        for group in self._groups:
            for lookup, *_ in group.lookups:
                lookup.current = number

    def clear(self) -> None:
        """Give the outputs' memory back."""
        self._inputs = []
        for group in self._groups:
            for lookup, *_ in group.lookups:
                lookup.clear()

    def _take(self, net: Net, prefix: str, block: nn.Module) -> None:
        layers = {
            path: layer
            for path, layer in block.named_modules()
            if path in net.once and isinstance(layer, nn.Linear)
        }
        if not layers:
            return
        parameters = {
            name: parameter
            for name, parameter in block.named_parameters()
            if name.rpartition(".")[0] in layers
        }
        layout = BlockLayout(tensor_plans(net, prefix, parameters, self._dtype))
        at = {tensor.name: index for index, tensor in enumerate(layout.tensors)}
        lookups = []
        for path, layer in layers.items():
            lookup = Lookup(layer)
            owner, _, leaf = path.rpartition(".")
            setattr(block.get_submodule(owner), leaf, lookup)
            lookups.append((lookup, at[f"{path}.weight"], at.get(f"{path}.bias")))
        self._groups.append(_Group(layout, lookups))

    def _compare(self, _lookup: nn.Module, given: tuple[torch.Tensor]) -> None:
        """Raise StageError (internal) unless the network gives what was told beforehand.

        On a card the host waits for the comparison: once an evaluation and network.
        """
        if not torch.equal(given[0], self._inputs[self._current]):
            raise StageError(
                "internal",
                "the network embeds the noise level otherwise than was computed beforehand",
                "install a version of diffusers that pyproject.toml allows",
            )
