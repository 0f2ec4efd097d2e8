"""`stream`: networks on the meta device in, networks that run within two budgets out.

nets = {
    "controlnet": Net(controlnet, open_tensors(folder), FLUX_BLOCKS),
    "transformer": Net(transformer, open_tensors(other), FLUX_BLOCKS, deltas),
}
with stream(nets, vram_bytes=3 << 30, host_bytes=16 << 30, device=cuda) as streamed:
    transformer(...)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from stages.common.streaming.delta import SCRATCH_NUMBERS, LowRankDelta, Merger
from stages.common.streaming.filling import Filler
from stages.common.streaming.layout import ALIGNMENT, DTYPES, BlockLayout, TensorPlan
from stages.common.streaming.reader import FileReader, Piece
from stages.common.streaming.source import TensorRange
from stages.common.streaming.streamer import BlockStreamer, StreamedBlock, StreamStats
from stages.common.streaming.tiers import BudgetError, TierPlan, plan_tiers
from stages.contract import StageError

FLUX_BLOCKS = ("transformer_blocks", "single_transformer_blocks")
"""Block lists of diffusers' FluxTransformer2DModel and FluxControlNetModel, in running order."""
T5_BLOCKS = ("encoder.block",)
"""Of transformers' T5EncoderModel."""
READERS = min(16, os.cpu_count() or 1)
"""Threads that read files: one core copies from the page cache at a few GB/s, a link takes 50."""

Storage = Literal["full", "fp8"]
"""full: the weights as they are. fp8 (lossy): matrices of blocks, AdaLN's too, rounded to
float8_e4m3fn without a scale, as diffusers' layerwise casting does; half the bytes on the link."""


@dataclass(frozen=True)
class Net:
    """A network to stream.

    module       its parameters on the meta device
    tensors      where each parameter is, by the parameter's name
    block_lists  names of its nn.ModuleLists of blocks, in running order
    deltas       low-rank changes to merge, by the weight's parameter name
    """

    module: nn.Module
    tensors: Mapping[str, TensorRange]
    block_lists: Sequence[str]
    deltas: Mapping[str, LowRankDelta] = field(default_factory=dict)


class StreamedModels:
    """What `stream` gives: the networks are ready to be called until `close`."""

    def __init__(
        self,
        nets: Mapping[str, Net],
        streamer: BlockStreamer,
        plan: TierPlan,
        numbers: Mapping[str, range],
        reader: FileReader,
    ) -> None:
        self.plan = plan
        self._nets = nets
        self._streamer = streamer
        self._numbers = numbers
        self._reader = reader

    @property
    def stats(self) -> StreamStats:
        return self._streamer.stats

    @property
    def note(self) -> str:
        """What is slower than it could be, "" if nothing."""
        return self._streamer.note

    def expect(self, *names: str) -> None:
        """Tell which networks an evaluation calls from now on, in order; one may come twice.

        Without it, the order that ran last is expected again. Results do not depend on it.
        """
        self._streamer.expect([number for name in names for number in self._numbers[name]])

    def close(self) -> None:
        """Give all memory, threads and files back. The modules are on meta again."""
        try:
            self._streamer.close()
        finally:
            self._reader.close()
            for net in self._nets.values():
                net.module.to_empty(device="meta")

    def __enter__(self) -> StreamedModels:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def stream(
    nets: Mapping[str, Net],
    *,
    vram_bytes: int,
    host_bytes: int,
    device: torch.device,
    dtype: torch.dtype,
    storage: Storage = "full",
    threads: int = READERS,
) -> StreamedModels:
    """Make the networks callable with their blocks in three tiers.

    nets        in the order in which an evaluation calls them
    vram_bytes  for weights on the card: not for activations or the CUDA context
    host_bytes  for registered host memory: not for the page cache
    dtype       that floating parameters are computed in
    threads     that read files

    Raises StageError: bad_input where tensors or deltas do not fit the modules, out_of_memory where
    a budget is too small, missing_weights where files cannot be read.
    """
    for net in nets.values():
        _check(net)
    blocks: list[StreamedBlock] = []
    numbers: dict[str, range] = {}
    for name, net in nets.items():
        begin = len(blocks)
        blocks += make_blocks(name, net, dtype, storage)
        numbers[name] = range(begin, len(blocks))
    plan = plan_streaming(nets, blocks, dtype, vram_bytes, host_bytes)
    reader = FileReader(threads)
    streamed = StreamedModels(
        nets, BlockStreamer(blocks, plan, device, reader), plan, numbers, reader
    )
    try:
        for net in nets.values():
            _load_rest(net, reader, device, dtype)
        staging, widest = _work_space(blocks)
        streamed._streamer.load(Filler(device, staging, widest))
    except BaseException:
        streamed.close()
        raise
    return streamed


def plan_streaming(
    nets: Mapping[str, Net],
    blocks: Sequence[StreamedBlock],
    dtype: torch.dtype,
    vram_bytes: int,
    host_bytes: int,
) -> TierPlan:
    """The tiers, with all that is on the card besides blocks. Raises StageError (out_of_memory)."""
    staging, widest = _work_space(blocks)
    rest = staging + (4 * max(SCRATCH_NUMBERS, widest) if widest else 0)
    for net in nets.values():
        rest += sum(_padded(p, dtype) for p in _rest(net).values())
    # Deltas of the file tier stay on the card. Which blocks that is, is not known before: if there
    # are any, leave room for all deltas.
    deltas = sum(t.delta.nbytes for b in blocks for t in b.layout.tensors if t.delta is not None)
    sizes = [block.layout.size for block in blocks]
    try:
        plan = plan_tiers(sizes, rest, vram_bytes, host_bytes)
        if deltas and plan.count("file"):
            plan = plan_tiers(sizes, rest + deltas, vram_bytes, host_bytes)
    except BudgetError as error:
        raise StageError(
            "out_of_memory",
            str(error),
            "raise --target-vram" if error.where == "card" else "raise --host-ram",
        ) from error
    return plan


def _work_space(blocks: Sequence[StreamedBlock]) -> tuple[int, int]:
    """Bytes for casting, and the widest layer that has a delta (0: none)."""
    tensors = [tensor for block in blocks for tensor in block.layout.tensors]
    staging = max((block.layout.staging_bytes for block in blocks), default=0)
    widest = max((t.delta.shape[1] for t in tensors if t.delta is not None), default=0)
    return staging, widest


def make_blocks(
    net_name: str, net: Net, dtype: torch.dtype, storage: Storage = "full"
) -> list[StreamedBlock]:
    """A network's blocks in running order, with the ways that their tensors take."""
    blocks = []
    for list_name in net.block_lists:
        stack = net.module.get_submodule(list_name)
        for number, module in stack.named_children():
            prefix = f"{list_name}.{number}"
            tensors = [
                TensorPlan(
                    name,
                    net.tensors[f"{prefix}.{name}"],
                    _computed(parameter, dtype),
                    net.deltas.get(f"{prefix}.{name}"),
                    rounded=storage == "fp8" and parameter.ndim == 2,
                )
                for name, parameter in module.named_parameters()
            ]
            blocks.append(StreamedBlock(f"{net_name}.{prefix}", module, BlockLayout(tensors)))
    return blocks


def _rest(net: Net) -> dict[str, torch.Tensor]:
    """Parameters outside blocks, a tied one once, under its first name; and all buffers."""
    inside = tuple(f"{name}." for name in net.block_lists)
    outside = {n: p for n, p in net.module.named_parameters() if not n.startswith(inside)}
    return {**outside, **dict(net.module.named_buffers())}


def _load_rest(net: Net, reader: FileReader, device: torch.device, dtype: torch.dtype) -> None:
    finished: dict[int, torch.Tensor] = {}
    widest = max((delta.shape[1] for delta in net.deltas.values()), default=0)
    for name, empty in _rest(net).items():
        source = net.tensors[name]
        image = torch.empty(source.nbytes, dtype=torch.uint8)
        piece = Piece(source.path, source.offset, source.nbytes, 0)
        reader.start([piece], image.numpy().data).result()
        stored = image.view(DTYPES[source.dtype]).view(source.shape)
        value = stored.to(device, _computed(empty, dtype))
        if name in net.deltas:
            Merger(device, widest).merge(value, net.deltas[name].to(device))
        finished[id(empty)] = value
    for module in net.module.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in finished:
                value = finished[id(parameter)]
                module._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        for leaf, buffer in module._buffers.items():
            if buffer is not None and id(buffer) in finished:
                module._buffers[leaf] = finished[id(buffer)]


def _computed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype


def _padded(tensor: torch.Tensor, dtype: torch.dtype) -> int:
    size = tensor.numel() * _computed(tensor, dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT


def _check(net: Net) -> None:
    """Raise StageError (bad_input) unless files and deltas fit the module."""
    kind = type(net.module).__name__
    wanted = dict([*net.module.named_parameters(), *net.module.named_buffers()])
    for name, tensor in wanted.items():
        source = net.tensors.get(name)
        if source is None:
            raise _unfit(f"{kind} needs {name}, which the files do not hold")
        if source.shape != tuple(tensor.shape):
            raise _unfit(
                f"{name} is {source.shape} in {source.path}, {kind} needs {tuple(tensor.shape)}"
            )
        if DTYPES[source.dtype].is_floating_point != tensor.is_floating_point():
            raise _unfit(f"{name} is {source.dtype} in {source.path}, {kind} needs {tensor.dtype}")
    for name, delta in net.deltas.items():
        if name not in wanted or tuple(wanted[name].shape) != delta.shape:
            raise _unfit(f"a delta of shape {delta.shape} for {name} does not fit {kind}")


def _unfit(what: str) -> StageError:
    return StageError(
        "bad_input", what, "the files are another model's, or the download is incomplete"
    )
