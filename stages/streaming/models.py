"""`stream`: networks on the meta device in, networks that run within two budgets out.

nets = {
    "controlnet": Net(controlnet, open_tensors(folder), CONTROLNET_BLOCKS),
    "transformer": Net(transformer, open_tensors(other), FLUX_BLOCKS, deltas),
}
with stream(nets, vram_bytes=3 << 30, host_bytes=16 << 30, device=cuda) as streamed:
    transformer(...)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from stages.contract import StageError
from stages.streaming.blocks import StreamedBlock
from stages.streaming.eight_bit import Kind, RoundingErrors
from stages.streaming.eight_bit_linear import replace_linear
from stages.streaming.filling import Filler, WorkSpace
from stages.streaming.lanes import open_lanes
from stages.streaming.layout import BlockLayout
from stages.streaming.net import Net, Surroundings, tensor_plans
from stages.streaming.once import OnceLayers
from stages.streaming.pinned import HostBuffer
from stages.streaming.reader import FileReader
from stages.streaming.streamer import BlockStreamer, StreamStats
from stages.streaming.tiers import BudgetError, TierPlan, plan_tiers

READERS = min(16, os.cpu_count() or 1)
"""Threads that read files: one core copies from the page cache at a few GB/s, a link takes 50."""

Embed = Callable[[str], Sequence[torch.Tensor]]
"""The inputs of a network's `once` layers, by its name: (1, d) each, on the card, in the dtype that
it computes in. It is called when what the network has besides blocks is there."""

Storage = Literal["full", "fp8"]
"""full: the weights as they are. fp8 (lossy): the blocks' linear layers, except those in norms,
rounded to float8_e4m3fn without a scale, as diffusers' layerwise casting does. With AdaLN's, which
are in norms, the relative error of FLUX's velocity is 0.099 instead of 0.023."""


class StreamedModels:
    """What `stream` gives: networks that can be called while their card tier is filled."""

    def __init__(
        self,
        nets: Mapping[str, Net],
        blocks: Sequence[StreamedBlock],
        plan: TierPlan,
        numbers: Mapping[str, range],
        device: torch.device,
        dtype: torch.dtype,
        threads: int,
        once: Mapping[str, OnceLayers],
        errors: RoundingErrors,
    ) -> None:
        self.plan = plan
        self.errors = errors
        self._numbers = numbers
        self._device = device
        self._dtype = dtype
        self._once = once
        self._work_space = WorkSpace.of(_layouts(blocks, once.values()))
        self._surroundings = [Surroundings(net) for net in nets.values()]
        self._reader = FileReader(threads)
        self._lanes = open_lanes(device)
        self._streamer = BlockStreamer(blocks, plan, device, self._lanes, self._reader)
        self._on_card = False

    @property
    def stats(self) -> StreamStats:
        return self._streamer.stats

    @property
    def host(self) -> HostBuffer:
        """The pinned memory of the host tier; empty before it is filled, and once closed."""
        return self._streamer.host

    @property
    def note(self) -> str:
        """What is slower than it could be, "" if nothing."""
        return self._streamer.note

    def expect(self, *names: str) -> None:
        """Tell which networks an evaluation calls from now on, in order; one may come twice.

        Without it, the order that ran last is expected again. Results do not depend on it.
        """
        self._streamer.expect([number for name in names for number in self._numbers[name]])

    def expect_blocks(self, *parts: tuple[str, Iterable[int]]) -> None:
        """As `expect`, by numbers of blocks within the networks."""
        self._streamer.expect([self._numbers[name][at] for name, ats in parts for at in ats])

    def blocks(self, name: str) -> int:
        """How many a network has."""
        return len(self._numbers[name])

    def choose(self, number: int) -> None:
        """Tell which of the inputs of `once` layers the next evaluations have."""
        for layers in self._once.values():
            layers.choose(number)

    def fill_host(self) -> None:
        """Fill the host tier; once, before anything else."""
        self._streamer.fill_host(self._filler())

    def enter_card(self, embed: Embed | None = None) -> None:
        """Fill the card tier, unless it is: from here on the networks can be called.

        embed: needed where a network has `once` layers, which are computed here, each time.

        Raises StageError (missing_weights) for files that cannot be read. After any exception the
        card is left: half of it would pass for the whole at the next entry.
        """
        entered, self._on_card = self._on_card, True
        try:
            self._enter_card(entered, embed)
        except BaseException:
            self.leave_card()
            raise

    def _enter_card(self, entered: bool, embed: Embed | None) -> None:
        if not entered:
            for surroundings in self._surroundings:
                surroundings.load(self._reader, self._device, self._dtype)
        filler = self._filler()
        for name, layers in self._once.items():
            if embed is None:
                raise ValueError(f"{name} has layers to be computed once, and no inputs for them")
            layers.compute(embed(name), self._reader, filler, self._lanes, self._device)
        if not entered:
            self._streamer.enter_card(filler)

    def leave_card(self) -> None:
        """Give the card's memory back; the host tier stays. The modules are on meta again."""
        if not self._on_card:
            return
        self._on_card = False
        self._streamer.leave_card()
        for layers in self._once.values():
            layers.clear()
        for surroundings in self._surroundings:
            surroundings.unload()

    def close(self) -> None:
        """Give all memory, threads and files back. The modules are on meta again."""
        try:
            self.leave_card()
            self._streamer.close()
        finally:
            self._reader.close()

    def _filler(self) -> Filler:
        return self._work_space.filler(self._device, self.errors)

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
    kind: Kind | None = None,
    threads: int = READERS,
    enter_card: bool = True,
    embeddings: int = 0,
) -> StreamedModels:
    """Make the networks callable with their blocks in three tiers.

    nets        in the order in which an evaluation calls them
    vram_bytes  for weights on the card: not for activations or the CUDA context
    host_bytes  for registered host memory: not for the page cache
    dtype       that floating parameters are computed in
    kind        multiply in eight bits in the blocks' linear layers, but for those in norms and
                those that are a block of their own (lossy); `storage` then says nothing
    threads     that read files
    enter_card  False leaves the card's tier empty until `StreamedModels.enter_card`; needed where
                a network has `once` layers
    embeddings  the most inputs that `once` layers will have

    Raises StageError: missing_weights where files cannot be read, or tensors or deltas do not fit
    the modules; out_of_memory where a budget is too small.
    """
    errors = RoundingErrors()
    for net in nets.values():
        net.check()
    once = {name: OnceLayers(net, dtype) for name, net in nets.items() if net.once}
    blocks: list[StreamedBlock] = []
    numbers: dict[str, range] = {}
    for name, net in nets.items():
        begin = len(blocks)
        blocks += make_blocks(name, net, dtype, storage, kind, errors)
        numbers[name] = range(begin, len(blocks))
    plan = plan_streaming(
        nets, blocks, dtype, vram_bytes, host_bytes, list(once.values()), embeddings
    )
    streamed = StreamedModels(nets, blocks, plan, numbers, device, dtype, threads, once, errors)
    try:
        streamed.fill_host()
        if enter_card:
            streamed.enter_card()
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
    once: Sequence[OnceLayers] = (),
    embeddings: int = 0,
) -> TierPlan:
    """The tiers, with all that is on the card besides blocks. Raises StageError (out_of_memory).

    embeddings: the most inputs that the layers of `once` will have.
    """
    rest = WorkSpace.of(_layouts(blocks, once)).nbytes
    rest += sum(Surroundings(net).nbytes(dtype) for net in nets.values())
    rest += sum(layers.table_bytes(embeddings) for layers in once)
    sizes = [block.layout.size for block in blocks]
    deltas = [
        sum(t.delta.nbytes for t in block.layout.tensors if t.delta is not None) for block in blocks
    ]
    # Deltas of the file tier stay on the card; room for them may move more blocks to that tier.
    held, needed = -1, 0
    try:
        while needed > held:
            held = needed
            plan = plan_tiers(sizes, rest + held, vram_bytes, host_bytes)
            in_file = (tier == "file" for tier in plan.tiers)
            needed = sum(nbytes for nbytes, is_file in zip(deltas, in_file, strict=True) if is_file)
    except BudgetError as error:
        raise StageError(
            "out_of_memory",
            str(error),
            "raise --target-vram" if error.where == "card" else "raise --host-ram",
        ) from error
    return plan


def _layouts(blocks: Sequence[StreamedBlock], once: Iterable[OnceLayers]) -> list[BlockLayout]:
    return [block.layout for block in blocks] + [
        layout for layers in once for layout in layers.layouts
    ]


def make_blocks(
    net_name: str,
    net: Net,
    dtype: torch.dtype,
    storage: Storage = "full",
    kind: Kind | None = None,
    errors: RoundingErrors | None = None,
) -> list[StreamedBlock]:
    """A network's blocks in running order, with the ways that their tensors take.

    kind: puts layers that multiply in eight bits into the network; errors: what they tell of.
    """
    blocks = []
    for list_name in net.block_lists:
        stack = net.module.get_submodule(list_name)
        for number, module in stack.named_children():
            prefix = f"{list_name}.{number}"
            small = _linear_layers(module) if kind or storage == "fp8" else frozenset()
            if kind is not None:
                small -= {""}
            parameters = dict(module.named_parameters())
            tensors = tensor_plans(net, prefix, parameters, dtype, small, kind)
            if kind is not None:
                replace_linear(module, small, kind, errors or RoundingErrors())
            blocks.append(StreamedBlock(f"{net_name}.{prefix}", module, BlockLayout(tensors)))
    return blocks


def _linear_layers(block: nn.Module) -> frozenset[str]:
    """Those outside of norms, by their name within the block ("" if it is one itself)."""
    return frozenset(
        name
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and "norm" not in name
    )
