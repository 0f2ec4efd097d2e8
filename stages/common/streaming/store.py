"""The two upper tiers: blocks in host memory, filled once, and blocks on the card."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Sequence

import torch

from stages.common.streaming.filling import Deltas, Filler
from stages.common.streaming.lanes import Lanes
from stages.common.streaming.layout import BlockLayout
from stages.common.streaming.pinned import HostBuffer
from stages.common.streaming.reader import FileReader, Reading
from stages.common.streaming.tiers import TierPlan

log = logging.getLogger("stages.streaming")


class BlockStore:
    """Memory of the tiers, by number of the block.

    resident  finished weights on the card, as slot images
    deltas    of the blocks of the file tier, on the card
    host      pinned blocks, then the ring
    """

    def __init__(
        self,
        layouts: Sequence[BlockLayout],
        plan: TierPlan,
        device: torch.device,
        lanes: Lanes,
        reader: FileReader,
    ) -> None:
        self._layouts = layouts
        self._plan = plan
        self._device = device
        self._lanes = lanes
        self._reader = reader
        self._pinned_at: dict[int, int] = {}
        end = 0
        for index, tier in enumerate(plan.tiers):
            if tier == "host":
                self._pinned_at[index] = end
                end += layouts[index].stored.nbytes
        self._ring_at = end
        self.resident: dict[int, torch.Tensor] = {}
        self.deltas: dict[int, Deltas] = {}
        self.host = HostBuffer(plan.host_bytes)

    def fill_host(self, filler: Filler) -> None:
        """Fill the host tier, and pin it.

        The files are read to where the blocks stay while the driver pins the pages. Weights that
        have to be finished first (deltas, other dtypes) then pass through a slot's memory on the
        card, at the link's rate. Raises StageError (missing_weights) for files that cannot be read.
        """
        began = time.perf_counter()
        self.host.touch()
        readings = [
            self._reader.start(layout.pieces, self.stored(index).numpy().data)
            for index, layout in self._pinned()
            if layout.stored_as_read
        ]
        if self._device.type == "cuda":
            self.host.register()
        for reading in readings:
            reading.result()
        read = time.perf_counter()
        unfinished = [index for index, layout in self._pinned() if not layout.is_plain]
        if unfinished:
            self._finish_pinned(unfinished, filler)
        self._lanes.settle()
        log.info(
            "host tier: %.1f GiB in %.1f s, of them %.1f s to finish %d blocks on %s",
            self._ring_at / 2**30,
            time.perf_counter() - began,
            time.perf_counter() - read,
            len(unfinished),
            self._device,
        )

    def fill_card(self, filler: Filler) -> None:
        """Fill the card tier. Raises StageError (missing_weights)."""
        began = time.perf_counter()
        on_card = [index for index, tier in enumerate(self._plan.tiers) if tier == "card"]
        for index, image in self._images(on_card):
            memory = self._on_card(self._layouts[index].slot.nbytes)
            self._finish(index, image, memory, filler)
            self.resident[index] = memory
        for index, tier in enumerate(self._plan.tiers):
            if tier == "file":
                self.deltas[index] = self._device_deltas(index)
        self._lanes.settle()
        size = sum(memory.numel() for memory in self.resident.values())
        log.info("card tier: %.1f GiB in %.1f s", size / 2**30, time.perf_counter() - began)

    def empty_card(self) -> None:
        """Give the card's memory back. Nothing may be under way."""
        self.resident, self.deltas = {}, {}

    def stored(self, index: int) -> torch.Tensor:
        """The stored image of a pinned block."""
        begin = self._pinned_at[index]
        return self.host.bytes[begin : begin + self._layouts[index].stored.nbytes]

    def ring(self) -> tuple[torch.Tensor, memoryview]:
        """The bytes behind the pinned blocks, for the card and for readers."""
        return self.host.bytes[self._ring_at :], self.host.view()[self._ring_at :]

    def close(self) -> None:
        """Give all memory back. Nothing may be under way."""
        self.empty_card()
        self.host.close()

    def _on_card(self, nbytes: int) -> torch.Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, device=self._device)

    def _pinned(self) -> list[tuple[int, BlockLayout]]:
        return [(index, self._layouts[index]) for index in self._pinned_at]

    def _finish_pinned(self, indices: Sequence[int], filler: Filler) -> None:
        """Finish blocks of the host tier on the card; those `stored_as_read` are in place."""
        work = self._on_card(self._plan.slot_bytes)
        in_place = [index for index in indices if self._layouts[index].stored_as_read]
        elsewhere = [index for index in indices if not self._layouts[index].stored_as_read]
        images = itertools.chain(
            ((index, self.stored(index)) for index in in_place), self._images(elsewhere)
        )
        for index, image in images:
            self._finish(index, image, work, filler)
            filler.to_stored(self._layouts[index], work, self.stored(index))

    def _images(self, indices: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
        """Each block's file image, in pageable memory of its own or of the last but one: the next
        is read while the caller works on one, which it has done when it asks for another."""
        if not indices:
            return
        size = max(self._layouts[index].file.nbytes for index in indices)
        buffers = [torch.empty(size, dtype=torch.uint8) for _ in indices[:2]]

        def start(number: int) -> Reading:
            pieces = self._layouts[indices[number]].pieces
            return self._reader.start(pieces, buffers[number % 2].numpy().data)

        reading = start(0)
        for number, index in enumerate(indices):
            reading.result()
            if number + 1 < len(indices):
                reading = start(number + 1)
            yield index, buffers[number % 2]

    def _finish(
        self, index: int, image: torch.Tensor, memory: torch.Tensor, filler: Filler
    ) -> None:
        """Finish a block in `memory` on the card from its file image."""
        # The allocator may have handed out memory that computing is not done with yet.
        self._lanes.settle()
        # On the transfer lane, as it will be when it streams: the library that multiplies has
        # its work space there.
        with self._lanes.transfers():
            filler.from_file(self._layouts[index], image, memory, self._device_deltas(index))
        self._lanes.settle()

    def _device_deltas(self, index: int) -> Deltas:
        return {
            number: tensor.delta.to(self._device)
            for number, tensor in enumerate(self._layouts[index].tensors)
            if tensor.delta is not None
        }
