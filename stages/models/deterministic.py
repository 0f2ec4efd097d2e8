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
    if not device.startswith("cuda"):
        yield
        return
    import torch

    filled = torch._C._get_deterministic_fill_uninitialized_memory()
    # Else each new tensor is written twice.
    torch._C._set_deterministic_fill_uninitialized_memory(False)
    try:
        with _one_order(True):
            yield
    finally:
        torch._C._set_deterministic_fill_uninitialized_memory(filled)


@contextmanager
def any_order() -> Iterator[None]:
    """While it is entered, `repeatable` does not hold: for what is the same in any order, as whole
    numbers that are added up and places that are each written once. It takes a sort less each."""
    with _one_order(False):
        yield


@contextmanager
def _one_order(wanted: bool) -> Iterator[None]:
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    # `torch.use_deterministic_algorithms` does this, and imports a compiler, which takes seconds.
    torch._C._set_deterministic_algorithms(wanted, warn_only=True)
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(before, warn_only=only_warned)
