"""The two upper tiers: blocks in host memory, filled once, and blocks on the card."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stages.common.streaming.filling import Deltas, Filler
from stages.common.streaming.lanes import Lanes
from stages.common.streaming.layout import BlockLayout
from stages.common.streaming.pinned import HostBuffer
from stages.common.streaming.reader import FileReader
from stages.common.streaming.tiers import TierPlan


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
        """Fill the host tier, through a slot's memory on the card where weights have to be
        finished first, and pin it.

        Raises StageError (missing_weights) for files that cannot be read.
        """
        work: torch.Tensor | None = None
        for index in self._pinned_at:
            layout = self._layouts[index]
            if layout.is_plain:
                begin = self._pinned_at[index]
                target = self.host.view()[begin : begin + layout.stored.nbytes]
                self._reader.start(layout.pieces, target).result()
                continue
            if work is None:
                work = self._on_card(self._plan.slot_bytes)
            self._finish(index, work, filler)
            filler.to_stored(layout, work, self.stored(index))
        if self._device.type == "cuda":
            self.host.register()
        self._lanes.settle()

    def fill_card(self, filler: Filler) -> None:
        """Fill the card tier. Raises StageError (missing_weights)."""
        for index, tier in enumerate(self._plan.tiers):
            if tier == "card":
                memory = self._on_card(self._layouts[index].slot.nbytes)
                self._finish(index, memory, filler)
                self.resident[index] = memory
            elif tier == "file":
                self.deltas[index] = self._device_deltas(index)
        self._lanes.settle()

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

    def _finish(self, index: int, memory: torch.Tensor, filler: Filler) -> None:
        """Read a block and finish it in `memory`, through pageable memory."""
        layout = self._layouts[index]
        image = torch.empty(layout.file.nbytes, dtype=torch.uint8)
        self._reader.start(layout.pieces, image.numpy().data).result()
        # The allocator may have handed out memory that computing is not done with yet.
        self._lanes.settle()
        # On the transfer lane, as it will be when it streams: the library that multiplies has
        # its work space there.
        with self._lanes.transfers():
            filler.from_file(layout, image, memory, self._device_deltas(index))
        self._lanes.settle()

    def _device_deltas(self, index: int) -> Deltas:
        return {
            number: tensor.delta.to(self._device)
            for number, tensor in enumerate(self._layouts[index].tensors)
            if tensor.delta is not None
        }
