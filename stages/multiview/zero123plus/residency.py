"""Whose turn it is on the card.

The four networks work one after another: CLIP's vision encoder, the VAE, the UNet, the VAE again.
Only one of them has to be on the card, so each lives in host memory (or in its mapped file) and is
copied over for its turn. Coming back costs nothing: the host's copy was never given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def resident(module: nn.Module, device: torch.device, keep: bool = False) -> Iterator[None]:
    """Have `module` on `device` inside the block; with `keep` it stays there for good.

    On leaving, its parameters and buffers are the host's tensors again, not copies, and the card's
    memory is returned to the driver.
    """
    if keep or device.type == "cpu":
        module.to(device)
        yield
        return
    owned: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (owners, name, tensor)
        for part in module.modules()
        for owners in (part._parameters, part._buffers)
        for name, tensor in owners.items()
        if tensor is not None
    ]
    try:
        for owners, name, tensor in owned:
            owners[name] = _copied(tensor, device)
        yield
    finally:
        for owners, name, tensor in owned:
            owners[name] = tensor
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    moved = tensor.detach().to(device)
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
