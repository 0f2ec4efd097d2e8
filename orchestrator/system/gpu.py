"""What the cards hold, asked of the driver (NVML), never of torch.

"Released" is a measurement: after a process is gone, is the card's used memory back at the level
before it was started? Without NVML nothing is claimed: the verdict is "not measurable".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.system import clock

MIB = 1 << 20
Verdict = Literal["released", "held", "not measurable", "no gpu used"]


@dataclass(frozen=True)
class Gpu:
    """One card. index is NVML's; memory in bytes, 0 where the driver does not tell."""

    index: int
    name: str
    uuid: str
    total: int
    used: int

    @property
    def free(self) -> int:
        return self.total - self.used


@dataclass(frozen=True)
class Release:
    """What was seen on the card around one process.

    before, peak, after in bytes (-1 where it could not be measured): the card's used memory before
    the spawn, the most that the process itself held, the card's used memory at the verdict.
    seconds: from the reaped exit to the verdict.
    """

    verdict: Verdict
    before: int = -1
    peak: int = -1
    after: int = -1
    seconds: float = 0.0

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


class GpuMonitor:
    """A thin, failure-proof reader of NVML. `why_not` says why there is none, or ""."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._uuids: list[str] = []
        self.why_not = ""
        self.driver = ""
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
            count = pynvml.nvmlDeviceGetCount()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            self._uuids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
            self._handles = handles
            if not self._handles:
                self.why_not = "the driver lists no GPU"
        except ImportError:
            self.why_not = "nvidia-ml-py is not installed"
        except Exception as error:  # pynvml raises one class a return code
            self.why_not = f"NVML: {error}"

    def gpus(self) -> list[Gpu]:
        """All cards that NVML lists and CUDA_VISIBLE_DEVICES leaves visible."""
        found = []
        for index in visible_indices(self._uuids, os.environ.get("CUDA_VISIBLE_DEVICES")):
            handle = self._handles[index]
            name, total, used = "unknown card", 0, 0
            # A lost card answers nothing; one that shares the CPU's memory does not count its own.
            with contextlib.suppress(Exception):
                name = str(self._nvml.nvmlDeviceGetName(handle))
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                total, used = int(memory.total), int(memory.used)
            found.append(Gpu(index, name, self._uuids[index], total, used))
        return found

    def _handle(self, index: int) -> Any:
        if index < 0:
            raise IndexError("NVML does not know this card")
        return self._handles[index]

    def used(self, index: int) -> int:
        """Bytes in use on a card, -1 when it cannot be read."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle(index)).used)
        except Exception:  # the driver can fail under a running program
            return -1

    def process_memory(self, index: int, pids: Sequence[int]) -> int:
        """Bytes that these processes hold on a card: 0 when not listed, -1 when unreadable.

        In a container NVML may list no pids at all; then this stays 0 and the card's own level
        is the only witness.
        """
        try:
            rows = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle(index))
        except Exception:
            return -1
        return sum(int(row.usedGpuMemory or 0) for row in rows if row.pid in pids)

    def lists(self, index: int, pid: int) -> bool:
        """Whether NVML still lists the process on the card."""
        try:
            rows = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle(index))
        except Exception:
            return False
        return any(row.pid == pid for row in rows)


def visible_indices(uuids: Sequence[str], visible: str | None) -> list[int]:
    """Indices of the cards that CUDA_VISIBLE_DEVICES leaves, by number or (begun) UUID.

    Slices of a card (MIG) are left to CUDA itself.
    """
    if visible is None or "MIG-" in visible:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isascii() and entry.isdigit():
            named = [int(entry)] if int(entry) < len(uuids) else []
        else:
            named = [i for i, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        if len(named) != 1 or named[0] in chosen:  # CUDA ignores everything behind an invalid entry
            break
        chosen += named
    return chosen


class Ledger:
    """Follows one process on one card from before its spawn to the verdict.

    tolerance   bytes above the level before the spawn that still count as released
    deadline    seconds after the exit until "held" is the verdict
    """

    def __init__(
        self, monitor: GpuMonitor, index: int, tolerance: int = 64 * MIB, deadline: float = 10.0
    ) -> None:
        self._monitor = monitor
        self._index = index
        self._tolerance = tolerance
        self._deadline = deadline
        self._gone_at = 0.0
        self.before = monitor.used(index)
        self.peak = -1

    def sample(self, pid: int) -> int:
        """Note what the process holds now; where NVML hides pids, what the card gained."""
        held = self._monitor.process_memory(self._index, [pid])
        if held <= 0 and self.before >= 0:
            used = self._monitor.used(self._index)
            held = max(0, used - self.before) if used >= 0 else -1
        self.peak = max(self.peak, held)
        return held

    def report(self, pid: int, reserved: int, most: int) -> None:
        """What the process tells of its allocator: bytes held now, and the most it ever held.

        A peak between two samples is in neither. What is outside of the allocator (context,
        libraries) only grows, so it is now as large as it was at the peak.
        """
        held = self.sample(pid)
        if held > 0 and 0 <= reserved <= most:
            self.peak = max(self.peak, held + most - reserved)

    def verdict(self, pid: int) -> Release | None:
        """Call after the pid is reaped, until it answers. None: not yet decided."""
        now = clock.now()
        self._gone_at = self._gone_at or now
        waited = now - self._gone_at
        after = self._monitor.used(self._index)
        if self.before < 0 or after < 0:
            return Release("not measurable", self.before, self.peak, after, waited)
        back = after <= self.before + self._tolerance and not self._monitor.lists(self._index, pid)
        if back or waited >= self._deadline:
            verdict: Verdict = "released" if back else "held"
            return Release(verdict, self.before, self.peak, after, waited)
        return None


@dataclass(frozen=True)
class Card:
    """A GPU that can be leased. index is NVML's (-1: NVML does not know it); visible is the value
    of CUDA_VISIBLE_DEVICES that shows this card alone."""

    index: int
    visible: str
    name: str = ""
