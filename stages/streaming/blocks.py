"""A block of a network, and the parameters that it is lent while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from stages.streaming.layout import BlockLayout, Image


@dataclass(frozen=True)
class StreamedBlock:
    """A module that runs as a whole, its parameters on the meta device, and where they come from.

    The layout names each parameter relative to the module.
    """

    name: str
    module: nn.Module
    layout: BlockLayout


@dataclass
class Place:
    """One parameter of one block: who owns it, and what it is while the block does not run."""

    owner: nn.Module
    leaf: str
    idle: nn.Parameter

    def put(self, parameter: nn.Parameter) -> None:
        self.owner._parameters[self.leaf] = parameter


def parameters_of(image: Image, memory: torch.Tensor) -> list[nn.Parameter]:
    """An image's tensors as parameters that are views into `memory`."""
    return [
        nn.Parameter(image.view(memory, index), requires_grad=False)
        for index in range(len(image.offsets))
    ]


def places_of(block: StreamedBlock) -> list[Place]:
    """In the order of the layout's names."""
    places = []
    for name in block.layout.names:
        path, _, leaf = name.rpartition(".")
        owner = block.module.get_submodule(path)
        idle = owner._parameters[leaf]
        assert idle is not None
        places.append(Place(owner, leaf, idle))
    return places
