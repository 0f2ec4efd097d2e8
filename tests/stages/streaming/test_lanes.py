"""On a card copies and computing run beside each other. Here their order is checked by clocks:
what each lane may assume of the other one is what it waited for, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from devtools.streamed_nets import CPU, TinyFlux, embedding, evaluate, save_tiny_flux
from stages.flux import blocks
from stages.streaming import filling, models
from stages.streaming.filling import Filler
from stages.streaming.reader import FileReader, Piece, Reading


class Point:
    """A moment of one lane. Passed only once the host has waited for it: the slowest device."""

    def __init__(self, lanes: Clocks, time: int) -> None:
        self.lanes, self.time = lanes, time

    def query(self) -> bool:
        return self.time <= self.lanes.host_knows

    def synchronize(self) -> None:
        self.lanes.host_knows = max(self.lanes.host_knows, self.time)
        self.lanes.host_waits += 1


class Clocks:
    """Lanes that do nothing but note who waited for what. One clock for both."""

    def __init__(self) -> None:
        self.now = 1
        self.transfers_know = self.compute_knows = self.host_knows = 0
        self.host_waits = 0
        self.left: dict[int, int] = {}  # slot -> when the last block there had computed
        self.filled: dict[int, int] = {}  # slot -> when the last copy to it is done
        self.copied: dict[tuple[int, int], int] = {}  # bytes of the ring -> when copied out

    def transfers(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark_transfers(self) -> Point:
        self.now += 1
        return Point(self, self.now - 1)

    mark_compute = mark_transfers

    def transfers_wait(self, mark: Point) -> None:
        self.transfers_know = max(self.transfers_know, mark.time)

    def compute_waits(self, mark: Point) -> None:
        self.compute_knows = max(self.compute_knows, mark.time)

    def settle(self) -> None:
        self.transfers_know = self.compute_knows = self.host_knows = self.now

    def waited(self) -> float:
        return 0.0

    def fill(self, slot: torch.Tensor) -> None:
        self.now += 1
        where = slot.untyped_storage().data_ptr()
        assert self.left.get(where, 0) <= self.transfers_know, "overwritten while it computes"
        self.filled[where] = self.now

    def enter(self, weight: torch.Tensor) -> None:
        where = weight.untyped_storage().data_ptr()
        assert self.filled.get(where, 0) <= self.compute_knows, "computed before it arrived"
        self.left[where] = self.now  # until the block is left, at the least


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()

    class CheckedFiller(Filler):
        def from_file(self, layout: Any, image: torch.Tensor, slot: Any, deltas: Any) -> None:
            clocks.fill(slot)
            begin = image.data_ptr()
            clocks.copied[begin, begin + image.numel()] = clocks.now
            super().from_file(layout, image, slot, deltas)

        def from_stored(self, layout: Any, image: torch.Tensor, slot: torch.Tensor) -> None:
            clocks.fill(slot)
            super().from_stored(layout, image, slot)

    class CheckedReader(FileReader):
        def start(self, pieces: Sequence[Piece], target: memoryview) -> Reading:
            begin = np.frombuffer(target, np.uint8).ctypes.data
            for (other, stop), time in clocks.copied.items():
                if begin < stop and other < begin + len(target):
                    assert time <= clocks.host_knows, "read over a copy that is under way"
            return super().start(pieces, target)

    monkeypatch.setattr(models, "open_lanes", lambda device: clocks)
    monkeypatch.setattr(filling, "Filler", CheckedFiller)
    monkeypatch.setattr(models, "FileReader", CheckedReader)
    return clocks


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFlux:
    folder: Path = tmp_path_factory.mktemp("flux")
    return save_tiny_flux(folder)


@pytest.mark.parametrize("budgets", [(290_000, 2**30), (400_000, 290_000), (290_000, 79_000)])
def test_no_slot_or_ring_place_is_written_while_it_is_read(
    tiny: TinyFlux, clocks: Clocks, budgets: tuple[int, int]
) -> None:
    nets = tiny.nets()
    vram, host = budgets
    with models.stream(
        nets, vram_bytes=vram, host_bytes=host, device=CPU, dtype=torch.bfloat16, threads=2
    ):
        for net in nets.values():
            for name in blocks.FLUX_BLOCKS:
                for block in net.module.get_submodule(name):
                    watch(block, clocks)
        for with_control in (True, True, False, False, True):
            control = nets["controlnet"].module if with_control else None
            evaluate(nets["transformer"].module, control)
    assert clocks.filled


def test_with_everything_pinned_the_host_waits_for_nothing(tiny: TinyFlux, clocks: Clocks) -> None:
    nets = tiny.nets()
    with models.stream(
        nets, vram_bytes=290_000, host_bytes=2**30, device=CPU, dtype=torch.bfloat16
    ):
        for _ in range(3):
            evaluate(nets["transformer"].module, nets["controlnet"].module)
        assert clocks.host_waits == 0


def test_no_image_is_read_over_while_layers_that_are_computed_once_are_copied(
    tiny: TinyFlux, clocks: Clocks
) -> None:
    nets = {name: replace(net, once=blocks.FLUX_ONCE) for name, net in tiny.nets().items()}
    with models.stream(
        nets,
        vram_bytes=2**30,
        host_bytes=0,
        device=CPU,
        dtype=torch.bfloat16,
        enter_card=False,
        embeddings=1,
    ) as streamed:
        streamed.enter_card(lambda name: [embedding(nets[name].module, 0.5)])
        assert len(clocks.copied) > 2  # one of the buffers was read into twice
        evaluate(nets["transformer"].module, nets["controlnet"].module)


def watch(block: Any, clocks: Clocks) -> None:
    """Look at the clocks inside the block: after the streamer entered it, before it leaves."""
    first = block.norm1 if hasattr(block, "norm1") else block.norm
    first.register_forward_pre_hook(lambda module, _inputs: clocks.enter(module.linear.weight))
