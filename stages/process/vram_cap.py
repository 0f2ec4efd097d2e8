"""Keep a process to its share of the card, so that an 80 GB card behaves like a 12 GB one."""

from __future__ import annotations

import os

CONTEXT_BYTES = 900 << 20
"""What a CUDA context takes outside of torch's allocator. Measured on an H100: 0.60 GiB, 0.68 with
cuDNN, 0.83 with 44 GiB of pinned host memory."""

_ALLOCATOR_SETTINGS = "expandable_segments:True"
"""Segments that grow waste less to fragmentation near the limit: under a 5 GiB cap Flux's blocks
fit with it and did not without."""


def cap_device_memory(limit: int) -> None:
    """Let torch take no more than `limit` bytes of device 0, the CUDA context included.

    Call before CUDA is initialised. What does not fit then raises torch.OutOfMemoryError. Where
    torch sees no CUDA device nothing is done: the stage will say so itself.
    """
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):  # the new name and the old one
        os.environ.setdefault(name, _ALLOCATOR_SETTINGS)
    import torch

    if not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(0).total_memory
    share = max(0, limit - CONTEXT_BYTES) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), 0)
