"""Gives each block its weights when it runs, and has the next one's on their way.

        compute   | block 0   | block 1   | block 2   | ...
        link         1 -> slot B | 2 -> slot A | 3 -> slot B
        file      3, 4 -> ring     5 -> ring     6 -> ring

A block's parameters are on the meta device except while it runs: then they are views into the slot
that holds it. A slot carries the number of its block, so a block either finds its own weights or
waits for them. The computing stream waits for copies by events; the host waits for the file only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.streaming.blocks import StreamedBlock, parameters_of, places_of
from stages.streaming.filling import Filler
from stages.streaming.lanes import Lanes, Mark
from stages.streaming.order import ExecutionOrder
from stages.streaming.pinned import HostBuffer
from stages.streaming.readahead import ReadAhead
from stages.streaming.reader import FileReader
from stages.streaming.store import BlockStore
from stages.streaming.tiers import TierPlan


@dataclass(frozen=True)
class StreamStats:
    """What was moved and waited for since the streamer was opened.

    link_bytes       from the host to the card while computing
    file_bytes       from files into the ring while computing
    file_wait_s      the host waited for files
    compute_wait_s   the card stood still until a copy had arrived
    surprises        blocks that ran although another was predicted
    """

    link_bytes: int
    file_bytes: int
    file_wait_s: float
    compute_wait_s: float
    surprises: int


@dataclass
class _Slot:
    """block: whose weights are in it, or on their way; None: nobody's.

    arrived   on the transfer lane: the copy is done
    left      on the compute lane: the last block that ran from here is done
    running   whether its block is inside forward
    used      grows with each use: the smallest is the one that was left longest ago
    """

    memory: torch.Tensor
    block: int | None = None
    arrived: Mark | None = None
    left: Mark | None = None
    running: bool = False
    used: int = 0


class BlockStreamer:
    """Streams the blocks of one or more networks through one set of slots.

    Construct it, call `fill_host`, then `enter_card`, run the networks, `leave_card`, as often as
    wanted; and `close` it, whatever happened between.
    """

    def __init__(
        self,
        blocks: Sequence[StreamedBlock],
        plan: TierPlan,
        device: torch.device,
        lanes: Lanes,
        reader: FileReader,
    ) -> None:
        """blocks: in execution order, as many as the plan has tiers; lanes: of the device."""
        self._blocks = blocks
        self._plan = plan
        self._device = device
        self._lanes = lanes
        self._reader = reader
        self._order = ExecutionOrder(range(len(blocks)))
        self._places = [places_of(block) for block in blocks]
        self._views: dict[tuple[int, int], list[nn.Parameter]] = {}
        self._surprises = 0
        self._link_bytes = 0
        self._uses = 0
        self._handles: list[Any] = []
        self._slots: list[_Slot] = []
        self._ahead: ReadAhead | None = None
        self._filler: Filler | None = None
        self._final: StreamStats | None = None
        layouts = [block.layout for block in blocks]
        self._store = BlockStore(layouts, plan, device, lanes, reader)

    @property
    def note(self) -> str:
        """What is slower than it could be, "" if nothing."""
        return self._store.host.note

    @property
    def host(self) -> HostBuffer:
        """The pinned memory of the host tier."""
        return self._store.host

    @property
    def stats(self) -> StreamStats:
        if self._final is not None:
            return self._final
        ahead = self._ahead
        return StreamStats(
            link_bytes=self._link_bytes,
            file_bytes=ahead.read if ahead else 0,
            file_wait_s=ahead.waited if ahead else 0.0,
            compute_wait_s=self._lanes.waited(),
            surprises=self._surprises,
        )

    def fill_host(self, filler: Filler) -> None:
        """Fill the tier in host memory and pin it; once, before anything else.

        Raises StageError (missing_weights) for files that cannot be read.
        """
        self._store.fill_host(filler)
        from_file = [index for index in range(len(self._blocks)) if self._is_file(index)]
        if from_file:
            layouts = {index: self._blocks[index].layout for index in from_file}
            self._ahead = ReadAhead(self._reader, *self._store.ring(), layouts)

    def enter_card(self, filler: Filler) -> None:
        """Fill the tier on the card, and hook into the blocks.

        Raises StageError (missing_weights) for files that cannot be read.
        """
        self._filler = filler
        self._slots = [
            _Slot(torch.empty(self._plan.slot_bytes, dtype=torch.uint8, device=self._device))
            for _ in range(self._plan.slots)
        ]
        self._store.fill_card(filler)
        for index, block in enumerate(self._blocks):
            memory = self._store.resident.get(index)
            if memory is None:
                self._hook(index, block.module)
            else:
                self._bind(index, parameters_of(block.layout.slot, memory))
                self._hook_resident(index, block.module)
        self._prefetch(None)

    def leave_card(self) -> None:
        """Unhook, wait for what is under way, and give the card's memory back.

        Blocks are on meta again; what was read ahead stays in the ring.
        """
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for places in self._places:
            for place in places:
                place.put(place.idle)
        self._lanes.settle()
        self._slots, self._views, self._filler = [], {}, None
        self._store.empty_card()

    def expect(self, cycle: Sequence[int]) -> None:
        """Tell which blocks will run from now on, over and over. Only a matter of speed."""
        self._order.expect(cycle)
        self._prefetch(None)

    def close(self) -> None:
        """Leave the card, and give all memory back. Blocks stay on meta."""
        if self._final is not None:
            return
        self.leave_card()
        if self._ahead is not None:
            self._ahead.close()
        self._final = self.stats
        self._ahead = None
        self._store.close()

    def _hook(self, index: int, module: nn.Module) -> None:
        def before(_module: nn.Module, _inputs: Any) -> None:
            self._enter(index)

        def after(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            self._leave(index)

        self._handles.append(module.register_forward_pre_hook(before))
        # Called after an exception in forward too: the block's slot must not stay taken.
        self._handles.append(module.register_forward_hook(after, always_call=True))

    def _hook_resident(self, index: int, module: nn.Module) -> None:
        def before(_module: nn.Module, _inputs: Any) -> None:
            self._note(index)
            self._prefetch(None)

        self._handles.append(module.register_forward_pre_hook(before))

    def _enter(self, index: int) -> None:
        self._note(index)
        number = self._find_slot(index)
        if number is None:
            number = self._free_slot(keep=set())
            self._fill(number, index)
        slot = self._slots[number]
        assert slot.arrived is not None
        self._lanes.compute_waits(slot.arrived)
        slot.running = True
        self._touch(slot)
        self._bind(index, self._bound(index, number))
        self._prefetch(index)

    def _bind(self, index: int, parameters: Sequence[nn.Parameter]) -> None:
        for place, parameter in zip(self._places[index], parameters, strict=True):
            place.put(parameter)

    def _leave(self, index: int) -> None:
        for place in self._places[index]:
            place.put(place.idle)
        number = self._find_slot(index)
        if number is not None and self._slots[number].running:
            self._slots[number].running = False
            self._slots[number].left = self._lanes.mark_compute()
            self._prefetch(None)

    def _note(self, index: int) -> None:
        if not self._order.ran(index):
            self._surprises += 1

    def _prefetch(self, running: int | None) -> None:
        """Fill the slots that are free with the next blocks, as far as that needs no waiting."""
        upcoming = [i for i in self._order.upcoming() if i not in self._store.resident]
        free = len(self._slots) - (running is not None)
        # A block that runs now has its slot; should it come again, it is found there.
        wanted = [i for i in dict.fromkeys(upcoming) if i != running][:free]
        for index in wanted:
            if self._find_slot(index) is not None:
                continue
            if self._is_file(index) and not (self._ahead is not None and self._ahead.has(index)):
                break  # blocks leave the ring in order: nothing behind it can be copied either
            self._fill(self._free_slot(keep=set(wanted)), index)
        if self._ahead is not None:
            here = {slot.block for slot in self._slots}
            later = (i for i in upcoming if self._is_file(i))
            self._ahead.ahead(_without_first(later, here))

    def _fill(self, number: int, index: int) -> None:
        """Put a block on its way into a slot."""
        assert self._filler is not None
        slot = self._slots[number]
        layout = self._blocks[index].layout
        slot.block = None  # should reading fail, nobody's weights are in it
        image = self._ahead.take(index) if self._is_file(index) and self._ahead else None
        if slot.left is not None:
            self._lanes.transfers_wait(slot.left)
        with self._lanes.transfers():
            if image is None:
                self._filler.from_stored(layout, self._store.stored(index), slot.memory)
                self._link_bytes += layout.stored.nbytes
            else:
                self._filler.from_file(layout, image, slot.memory, self._store.deltas[index])
                self._link_bytes += layout.file.nbytes
        slot.arrived = self._lanes.mark_transfers()
        slot.block = index
        self._touch(slot)
        if image is not None and self._ahead is not None:
            self._ahead.leave(index, slot.arrived)

    def _touch(self, slot: _Slot) -> None:
        self._uses += 1
        slot.used = self._uses

    def _find_slot(self, index: int) -> int | None:
        return next((n for n, slot in enumerate(self._slots) if slot.block == index), None)

    def _free_slot(self, keep: set[int]) -> int:
        """The slot that was left longest ago, those with a block of `keep` last."""
        free = [n for n, slot in enumerate(self._slots) if not slot.running]
        return min(free, key=lambda n: (self._slots[n].block in keep, self._slots[n].used))

    def _is_file(self, index: int) -> bool:
        return self._plan.tiers[index] == "file"

    def _bound(self, index: int, number: int) -> list[nn.Parameter]:
        key = (index, number)
        if key not in self._views:
            image = self._blocks[index].layout.slot
            self._views[key] = parameters_of(image, self._slots[number].memory)
        return self._views[key]


def _without_first(blocks: Iterator[int], here: set[int | None]) -> Iterator[int]:
    """The blocks but for the first occurrence of those that are in a slot already."""
    waiting = set(here)
    for block in blocks:
        if block in waiting:
            waiting.remove(block)
        else:
            yield block
