"""One way for a module to visit the device that computes.

Its weights stay where they are, in host memory or mapped from their file. For its turn the module
gets copies of them; leaving costs nothing, as the host's tensors were never given up. So a card
holds the module that is computing and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def visiting(
    module: nn.Module, device: torch.device, dtype: torch.dtype | None = None
) -> Iterator[None]:
    """`module` is on `device` inside the block, and where it was after it. dtype: see `place`.

    The memory of the copies goes back to the driver, for the next module's tensors differ.
    """
    tensors = [*module.parameters(), *module.buffers()]
    home = [tensor.data for tensor in tensors]
    try:
        place(module, device, dtype)
        yield
    finally:
        for tensor, data in zip(tensors, home, strict=True):
            tensor.data = data
        release(device)


def place(module: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Put parameters on `device`, in `dtype` (None: their own), and buffers on `device`.

    What is there already is not copied.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.to(device, dtype)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(device)


def release(device: torch.device) -> None:
    """Give the memory that torch keeps for later back to the card."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
