"""File images of blocks, one after another: the next is read while one is worked on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from stages.streaming.layout import BlockLayout
from stages.streaming.reader import FileReader, Reading


def read_images(reader: FileReader, layouts: Sequence[BlockLayout]) -> Iterator[torch.Tensor]:
    """Each block's file image, uint8 in pageable memory.

    Two buffers take turns: when the caller asks for another image, it must be done with the last,
    copies to the card included: whether the driver has read pageable memory when a copy that does
    not wait returns depends on the system.
    Raises StageError (missing_weights) for files that cannot be read.
    """
    if not layouts:
        return
    size = max(layout.file.nbytes for layout in layouts)
    buffers = [torch.empty(size, dtype=torch.uint8) for _ in layouts[:2]]

    def start(number: int) -> Reading:
        return reader.start(layouts[number].pieces, buffers[number % 2].numpy().data)

    reading = start(0)
    for number in range(len(layouts)):
        reading.result()
        if number + 1 < len(layouts):
            reading = start(number + 1)
        yield buffers[number % 2]
