"""The same inputs give the same bits on a card, too. torch is imported on first use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """While it is entered, sums by index are added up in one order on a "cuda:N".

    torch's CUDA kernels for them add in whatever order their threads come, gradients of lookups
    included, and float sums depend on it: two reference bundles of one picture differed by 6e-8,
    and refinement follows its gradients. Nothing changes on the CPU. Operations that torch cannot
    do in one order only warn.
    """
    import torch

    if not device.startswith("cuda"):
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
