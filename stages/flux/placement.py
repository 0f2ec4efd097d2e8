"""Where a module's weights are while it does not compute.

    resident   on the device, from load to exit
    model      on the host; the VAE visits the device, then transformer and ControlNet, the VAE
    streamed   the VAE as above; of the nets, blocks come and go (`streamed_nets`)

Who computes knows nothing of it: modules are called inside `with ....on_device()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch

Name = Literal["resident", "model", "streamed"]


class Placed(Protocol):
    """A module, or several, and the times when they can be called."""

    def on_device(self) -> AbstractContextManager[None]:
        """While it is entered, they can."""


class Resident:
    """What is on the device already."""

    def on_device(self) -> AbstractContextManager[None]:
        return nullcontext()


class Parked:
    """A module that lives on the CPU and visits the device.

    Leaving costs nothing: the weights did not change, so the device's copies are dropped and the
    host's (often mapped files) take their place again.
    """

    def __init__(self, module: Any, device: torch.device) -> None:
        self._device = device
        self._tensors = [*module.parameters(), *module.buffers()]

    @contextmanager
    def on_device(self) -> Iterator[None]:
        kept = [tensor.data for tensor in self._tensors]
        try:
            for tensor in self._tensors:
                tensor.data = tensor.data.to(self._device)
            yield
        finally:
            for tensor, host in zip(self._tensors, kept, strict=True):
                tensor.data = host
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


def home_of(name: Name, device: torch.device) -> torch.device:
    """Where the weights of whole modules are to be put."""
    return device if name == "resident" else torch.device("cpu")


def place(module: Any, name: Name, device: torch.device) -> Placed:
    """Take charge of a module whose weights are at home."""
    return Resident() if name == "resident" else Parked(module, device)
