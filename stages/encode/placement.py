"""T5-XXL's weights where they compute: block by block, each for its own forward pass.

Memory holds the block that is computing and nothing else: on a CPU that computes in float32,
0.72 GiB in place of 17.7. Results are the same to the bit as with all of it in memory. To a card,
T5's blocks are streamed instead (`T5Text.stream`): they arrive while others compute, and in the
budgets that are told here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from stages.contract import Context
from stages.models.visit import visiting
from stages.process.vram_cap import CONTEXT_BYTES

STREAMED_NUMBERS = 3 << 28
"""Weights of T5-XXL on the card at once: two slots of 193 million numbers, and two blocks more; in
bfloat16 1.5 GiB. For one pass there is nothing to gain by more."""
HOST_BYTES = 5 << 28
"""A ring of three blocks in bfloat16 (1.08 GiB), and no weights that stay."""
ACTIVATION_BYTES = 3 << 27
"""What T5-XXL allocates besides, by its shapes: 64 heads of 512 x 512 scores some times over."""


def streaming_budget(context: Context, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes for T5's weights on the card and in registered host memory, within the context's."""
    weights, host = STREAMED_NUMBERS * dtype.itemsize, HOST_BYTES
    if context.vram_bytes:
        weights = min(weights, max(0, context.vram_bytes - CONTEXT_BYTES - ACTIVATION_BYTES))
    if context.host_bytes:
        host = min(host, context.host_bytes)
    return weights, host


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
