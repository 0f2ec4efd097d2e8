"""Where a module's weights are while it does not compute.

    resident   on the device, from load to exit
    model      on the host; the VAE visits the device, then transformer and ControlNet, the VAE
    streamed   the VAE as above; of the nets, blocks come and go (`streamed_nets`)

Who computes knows nothing of it: modules are called inside `with ....on_device()`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

import torch
from torch import nn

from stages.models.visit import visiting

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
    """A module that lives on the CPU and visits the device."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._module, self._device = module, device

    def on_device(self) -> AbstractContextManager[None]:
        return visiting(self._module, self._device)


def home_of(name: Name, device: torch.device) -> torch.device:
    """Where the weights of whole modules are to be put."""
    return device if name == "resident" else torch.device("cpu")


def place(module: nn.Module, name: Name, device: torch.device) -> Placed:
    """Take charge of a module whose weights are at home."""
    return Resident() if name == "resident" else Parked(module, device)
