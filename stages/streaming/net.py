"""A network to stream, and what it has besides its blocks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from stages.contract import StageError
from stages.streaming.delta import LowRankDelta, Merger
from stages.streaming.eight_bit import Kind
from stages.streaming.layout import ALIGNMENT, DTYPES, TensorPlan
from stages.streaming.reader import FileReader, Piece
from stages.streaming.source import TensorRange
from stages.weights.checkpoint import misfit


@dataclass(frozen=True)
class Net:
    """A network to stream.

    module       its parameters on the meta device
    tensors      where each parameter is, by the parameter's name
    block_lists  names of its nn.ModuleLists of blocks, in running order
    deltas       low-rank changes to merge, by the weight's parameter name
    given        parameters outside of blocks that no file holds as they are needed, by name
    once         linear layers, by their names within a block, all of which are given one vector
                 that is known before the first evaluation (`once`)
    """

    module: nn.Module
    tensors: Mapping[str, TensorRange]
    block_lists: Sequence[str]
    deltas: Mapping[str, LowRankDelta] = field(default_factory=dict)
    given: Mapping[str, torch.Tensor] = field(default_factory=dict)
    once: Sequence[str] = ()

    def check(self) -> None:
        """Raise StageError (missing_weights) unless files and deltas fit the module."""
        kind = type(self.module).__name__
        wanted = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        for name, tensor in wanted.items():
            if name in self.given:
                continue
            source = self.tensors.get(name)
            if source is None:
                raise _unfit(f"{kind} needs {name}, which the files do not hold")
            if source.shape != tuple(tensor.shape):
                raise _unfit(
                    f"{name} is {source.shape} in {source.path}, {kind} needs {tuple(tensor.shape)}"
                )
            if DTYPES[source.dtype].is_floating_point != tensor.is_floating_point():
                raise _unfit(
                    f"{name} is {source.dtype} in {source.path}, {kind} needs {tensor.dtype}"
                )
        for name, delta in self.deltas.items():
            if name not in wanted or tuple(wanted[name].shape) != delta.shape:
                raise _unfit(f"a delta of shape {delta.shape} for {name} does not fit {kind}")


def tensor_plans(
    net: Net,
    prefix: str,
    parameters: Mapping[str, nn.Parameter],
    dtype: torch.dtype,
    rounded: Collection[str] = (),
    kind: Kind | None = None,
) -> list[TensorPlan]:
    """The ways that a block's parameters take.

    prefix      the block's name
    parameters  by their names within the block
    dtype       that floating ones are computed in
    rounded     layers that are rounded, by their names within the block
    kind        None: their numbers to float8; else their weights to eight bits with scales
    """
    plans = []
    for name, parameter in parameters.items():
        layer, _, leaf = name.rpartition(".")
        eight_bit = kind is not None and layer in rounded and leaf == "weight"
        plans.append(
            TensorPlan(
                name,
                net.tensors[f"{prefix}.{name}"],
                computed_dtype(parameter, dtype),
                net.deltas.get(f"{prefix}.{name}"),
                rounded=kind is None and layer in rounded,
                kind=kind if eight_bit else None,
            )
        )
    return plans


class Surroundings:
    """A network's parameters and buffers outside of blocks: on the card as a whole, or on meta."""

    def __init__(self, net: Net) -> None:
        self._net = net
        inside = tuple(f"{name}." for name in net.block_lists)
        outside = {n: p for n, p in net.module.named_parameters() if not n.startswith(inside)}
        # A tied parameter is here once, under its first name.
        self._empty = {**outside, **dict(net.module.named_buffers())}
        names = {id(tensor): name for name, tensor in self._empty.items()}
        self._places = [
            (kind, leaf, names[id(tensor)], tensor)
            for module in net.module.modules()
            for kind in (module._parameters, module._buffers)
            for leaf, tensor in kind.items()
            if tensor is not None and id(tensor) in names
        ]

    def nbytes(self, dtype: torch.dtype) -> int:
        """Bytes on the card when floating numbers are of this dtype."""
        return sum(_padded(tensor, dtype) for tensor in self._empty.values())

    def load(self, reader: FileReader, device: torch.device, dtype: torch.dtype) -> None:
        """Raises StageError (missing_weights) for files that cannot be read."""
        finished = {name: self._read(name, reader, device, dtype) for name in self._empty}
        for holder, leaf, name, empty in self._places:
            value = finished[name]
            if isinstance(empty, nn.Parameter):
                value = nn.Parameter(value, requires_grad=False)
            holder[leaf] = value  # type: ignore[assignment]

    def unload(self) -> None:
        """Put what was there before `load` back."""
        for holder, leaf, _, empty in self._places:
            holder[leaf] = empty  # type: ignore[assignment]

    def _read(
        self, name: str, reader: FileReader, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        net = self._net
        stored = net.given.get(name)
        if stored is None:
            source = net.tensors[name]
            image = torch.empty(source.nbytes, dtype=torch.uint8)
            piece = Piece(source.path, source.offset, source.nbytes, 0)
            reader.start([piece], image.numpy().data).result()
            stored = image.view(DTYPES[source.dtype]).view(source.shape)
        # By itself: `to` with both would convert on the CPU first. A copy, since it may be merged.
        value = stored.to(device).to(computed_dtype(self._empty[name], dtype), copy=True)
        if name in net.deltas:
            delta = net.deltas[name].to(device)
            Merger(device, delta.shape[1]).merge(value, delta)
        return value


def computed_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """What a parameter is computed in: floating ones in `dtype`."""
    return dtype if tensor.is_floating_point() else tensor.dtype


def _padded(tensor: torch.Tensor, dtype: torch.dtype) -> int:
    size = tensor.numel() * computed_dtype(tensor, dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT


def _unfit(what: str) -> StageError:
    return misfit("the checkpoint", what)
