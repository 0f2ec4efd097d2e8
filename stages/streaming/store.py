"""The two upper tiers: blocks in host memory, filled once, and blocks on the card."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch

from stages.streaming.filling import Deltas, Filler, device_deltas
from stages.streaming.images import read_images
from stages.streaming.lanes import Lanes
from stages.streaming.layout import BlockLayout
from stages.streaming.pinned import HostBuffer
from stages.streaming.reader import FileReader
from stages.streaming.tiers import TierPlan

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
        try:
            if self._device.type == "cuda":
                self.host.register()
            for reading in readings:
                reading.result()
        finally:  # after an error threads must not write on, to memory that is given back
            for reading in readings:
                reading.cancel()
            for reading in readings:
                reading.settle()
        read = time.perf_counter()
        unfinished = [index for index, layout in self._pinned() if layout.changed]
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
        layouts = [self._layouts[index] for index in on_card]
        for index, image in zip(on_card, read_images(self._reader, layouts), strict=True):
            memory = self._on_card(self._layouts[index].slot.nbytes)
            self._finish(index, image, memory, filler)
            self.resident[index] = memory
        for index, tier in enumerate(self._plan.tiers):
            if tier == "file":
                self.deltas[index] = device_deltas(self._layouts[index], self._device)
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
        elsewhere = [self._layouts[i] for i in indices if not self._layouts[i].stored_as_read]
        images = read_images(self._reader, elsewhere)
        for index in indices:
            layout, stored = self._layouts[index], self.stored(index)
            self._finish(index, stored if layout.stored_as_read else next(images), work, filler)
            filler.to_stored(layout, work, stored)

    def _finish(
        self, index: int, image: torch.Tensor, memory: torch.Tensor, filler: Filler
    ) -> None:
        """Finish a block in `memory` on the card from its file image."""
        # The allocator may have handed out memory that computing is not done with yet.
        self._lanes.settle()
        # On the transfer lane, as it will be when it streams: the library that multiplies has
        # its work space there.
        with self._lanes.transfers():
            filler.from_file(
                self._layouts[index],
                image,
                memory,
                device_deltas(self._layouts[index], self._device),
            )
        self._lanes.settle()
