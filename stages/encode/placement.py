"""Bringing modules to where they compute, for good or for the time of one forward pass.

A module's weights stay where they are, usually mapped from their file in the dtype that is stored
there. For its turn it gets copies in the wanted dtype on the wanted device, and the mapped ones
back afterwards. So memory holds the module that is computing and nothing else: on a card, one block
of T5-XXL in bfloat16 (0.36 GiB) in place of all of it (8.9 GiB); on a CPU that computes in float32,
0.72 GiB in place of 17.7 GiB. Results are the same to the bit as with all of it in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


def place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Put parameters on `device` in `dtype`, and buffers (indices, tables) on `device`.

    What is there already is not copied.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.to(device, dtype)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(device)


@contextlib.contextmanager
def visiting(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """`module` is placed inside the block, and back where it was after it."""
    tensors = [*module.parameters(), *module.buffers()]
    home = [tensor.data for tensor in tensors]
    try:
        place(module, device, dtype)
        yield
    finally:
        for tensor, data in zip(tensors, home, strict=True):
            tensor.data = data


def visit_in_turn(modules: Iterable[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
    """From now on each module visits for its own forward pass only, one after another.

    Their inputs have to be on `device` already.
    """
    for module in modules:
        _visit_on_forward(module, device, dtype)


def _visit_on_forward(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    visit = contextlib.ExitStack()

    def arrive(module: nn.Module, _: Any) -> None:
        visit.enter_context(visiting(module, device, dtype))

    def leave(*_: Any) -> None:
        visit.close()

    module.register_forward_pre_hook(arrive)
    module.register_forward_hook(leave, always_call=True)
