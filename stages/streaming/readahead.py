"""Blocks of the file tier, read into the pinned ring before they are needed.

All decisions are made by the thread that computes, at the borders of blocks; the reading threads
only fill memory. There is no thread that could be left behind or wait for another for ever.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from stages.streaming.lanes import Mark
from stages.streaming.layout import BlockLayout
from stages.streaming.reader import FileReader, Reading
from stages.streaming.ring import Ring


@dataclass
class _Entry:
    """A place in the ring. copied: set once the block is on its way to the card; until that has
    been passed, and while threads write to it, the place is not free."""

    block: int
    begin: int
    reading: Reading
    copied: Mark | None = None
    dropped: bool = False

    def is_free(self) -> bool:
        if self.dropped:
            return self.reading.done()
        return self.copied is not None and self.copied.query()

    def is_pending(self) -> bool:
        return self.copied is None and not self.dropped


class ReadAhead:
    """The ring and what is in it.

    waited    seconds that `take` waited for the files
    read      bytes taken
    """

    def __init__(
        self,
        reader: FileReader,
        memory: torch.Tensor,
        view: memoryview,
        layouts: Mapping[int, BlockLayout],
    ) -> None:
        """memory, view: the same bytes, pinned. layouts: of the blocks of the file tier."""
        self._reader = reader
        self._memory = memory
        self._view = view
        self._layouts = layouts
        self._ring = Ring(memory.numel())
        self._entries: deque[_Entry] = deque()
        self.waited = 0.0
        self.read = 0

    def ahead(self, upcoming: Iterable[int]) -> None:
        """Have as many of the upcoming blocks read as the ring has room for. Never waits.

        What is pending in another order than the upcoming one is dropped.
        """
        pending = [entry for entry in self._entries if entry.is_pending()]
        position = 0
        for block in upcoming:
            if position < len(pending):
                if pending[position].block == block:
                    position += 1
                    continue
                self._drop(pending[position:])
                pending = pending[:position]
            if self._begin(block) is None:
                return
            position += 1
            pending.append(self._entries[-1])

    def has(self, block: int) -> bool:
        """Whether `take` would not wait."""
        entry = self._oldest_pending()
        return entry is not None and entry.block == block and entry.reading.done()

    def take(self, block: int) -> torch.Tensor:
        """The block's file image. Waits for the files only; call `leave` after copying.

        Raises StageError (missing_weights) with what went wrong in a reading thread.
        """
        began = time.perf_counter()
        entry = self._oldest_pending()
        if entry is None or entry.block != block:
            self._drop([entry for entry in self._entries if entry.is_pending()])
            entry = self._begin(block)
            while entry is None:
                self._wait_for_oldest()
                entry = self._begin(block)
        try:
            entry.reading.result()
        except BaseException:
            self._drop([entry])
            raise
        self.waited += time.perf_counter() - began
        size = self._layouts[block].file.nbytes
        self.read += size
        return self._memory[entry.begin : entry.begin + size]

    def leave(self, block: int, copied: Mark) -> None:
        """The block that was taken is free again once `copied` is passed."""
        entry = self._oldest_pending()
        assert entry is not None
        assert entry.block == block
        entry.copied = copied

    def close(self) -> None:
        """Wait until no thread writes to the ring any more."""
        self._drop([entry for entry in self._entries if entry.is_pending()])
        for entry in self._entries:
            entry.reading.settle()
        self._entries.clear()

    def _begin(self, block: int) -> _Entry | None:
        while self._entries and self._entries[0].is_free():
            self._entries.popleft()
            self._ring.free_oldest()
        layout = self._layouts[block]
        begin = self._ring.allocate(layout.file.nbytes)
        if begin is None:
            return None
        target = self._view[begin : begin + layout.file.nbytes]
        entry = _Entry(block, begin, self._reader.start(layout.pieces, target))
        self._entries.append(entry)
        return entry

    def _drop(self, entries: Iterable[_Entry]) -> None:
        for entry in entries:
            entry.dropped = True
            entry.reading.cancel()

    def _oldest_pending(self) -> _Entry | None:
        return next((entry for entry in self._entries if entry.is_pending()), None)

    def _wait_for_oldest(self) -> None:
        """Have the host wait until the ring's oldest place is free; called without pending ones."""
        oldest = self._entries[0]
        if oldest.copied is not None:
            oldest.copied.synchronize()
        else:
            oldest.reading.settle()
