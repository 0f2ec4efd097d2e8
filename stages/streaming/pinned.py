"""One block of host memory of the exact size, registered with CUDA.

torch's pinned allocator rounds each request up to a power of two, which made 46 GiB of 28 (FLUX
with ControlNet, pinned tensor by tensor by diffusers). Registering memory of our own has no such
rounding, and one registration is faster than thousands.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

TOUCHERS = min(16, os.cpu_count() or 1)
TOUCHED_AT_ONCE = 256 * 2**20


class HostBuffer:
    """Host memory that the card can copy from by itself, once it is registered.

    bytes       (nbytes,) uint8 on the CPU
    registered  whether copies run by themselves; otherwise they work, only slower
    note        why it could not be registered, else ""
    """

    def __init__(self, nbytes: int) -> None:
        size = max(nbytes, 1)
        if sys.platform == "win32":
            self._memory = mmap.mmap(-1, size)
        else:
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            _advise_huge_pages(self._memory)
        self.bytes = torch.frombuffer(self._memory, dtype=torch.uint8)[:nbytes]
        self.registered = False
        self.note = ""

    def view(self) -> memoryview:
        """The same bytes, for readers."""
        return memoryview(self._memory)

    def touch(self, threads: int = TOUCHERS) -> None:
        """Have the system give all pages: several threads are faster at it than the driver."""
        array = self.bytes.numpy()
        parts = range(0, len(array), TOUCHED_AT_ONCE)

        def touch(begin: int) -> None:
            array[begin : begin + TOUCHED_AT_ONCE : mmap.PAGESIZE] = 0

        with ThreadPoolExecutor(threads, thread_name_prefix="touch") as pool:
            list(pool.map(touch, parts))

    def register(self) -> None:
        """Pin the pages, which `touch` has made. A refusal is told by `note`."""
        if self.registered or not self.bytes.numel():
            return
        result = int(_cudart().cudaHostRegister(self.bytes.data_ptr(), self.bytes.numel(), 0))
        self.registered = result == 0
        if not self.registered:
            _take_refusal()
            self.note = (
                f"{self.bytes.numel() / 2**30:.1f} GiB of host memory could not be registered "
                f"(CUDA error {result}): copies are slower; lower the host budget"
            )

    def close(self) -> None:
        """Unregister, and give the pages back as soon as nothing refers to them."""
        if self.registered:
            _cudart().cudaHostUnregister(self.bytes.data_ptr())
            self.registered = False
        self.bytes = torch.empty(0, dtype=torch.uint8)
        # The last view that goes frees the pages; closing under a view would be refused.
        del self._memory


def _advise_huge_pages(memory: mmap.mmap) -> None:
    """2 MiB pages where the system has them: 500 times fewer faults, and entries to pin."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them: small pages do
            memory.madvise(mmap.MADV_HUGEPAGE)


def _take_refusal() -> None:
    """CUDA tells a refusal again where a kernel is launched next: let it be told here."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device="cuda")


def _cudart() -> Any:
    """The CUDA runtime, as torch exposes it."""
    return torch.cuda.cudart()
