"""Two lanes of one device: transfers on a side stream beside the computing, or neither on a CPU.

Order between the lanes is kept by events on the device; the host waits for none of them while
weights stream.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

import torch


class Mark(Protocol):
    """A point in a lane's work."""

    def query(self) -> bool:
        """Whether the lane has passed it."""

    def synchronize(self) -> None:
        """Have the host wait until it has."""


class Lanes(Protocol):
    """What the streamer needs of a device."""

    def transfers(self) -> AbstractContextManager[Any]:
        """While it is entered, copies go to the transfer lane."""

    def mark_transfers(self) -> Mark: ...

    def mark_compute(self) -> Mark: ...

    def transfers_wait(self, mark: Mark) -> None:
        """What is put on the transfer lane from now on runs after `mark`."""

    def compute_waits(self, mark: Mark) -> None:
        """What is computed from now on runs after `mark`."""

    def settle(self) -> None:
        """Have the host wait for both lanes."""

    def waited(self) -> float:
        """Seconds that computing stood still in `compute_waits`, of the waits that are over."""


class _Passed:
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        """It is over."""


class CpuLanes:
    """Everything happens at once and in order."""

    def transfers(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark_transfers(self) -> Mark:
        return _Passed()

    def mark_compute(self) -> Mark:
        return _Passed()

    def transfers_wait(self, mark: Mark) -> None:
        """Nothing runs beside."""

    def compute_waits(self, mark: Mark) -> None:
        """Nothing runs beside."""

    def settle(self) -> None:
        """Nothing runs beside."""

    def waited(self) -> float:
        return 0.0


class CudaLanes:
    """A side stream, and whatever stream computes when a block runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._waited = 0.0

    def transfers(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._side)

    def mark_transfers(self) -> Mark:
        return self._side.record_event()

    def mark_compute(self) -> Mark:
        return torch.cuda.current_stream(self._device).record_event()

    def transfers_wait(self, mark: Mark) -> None:
        self._side.wait_event(cast(torch.cuda.Event, mark))

    def compute_waits(self, mark: Mark) -> None:
        stream = torch.cuda.current_stream(self._device)
        before = torch.cuda.Event(enable_timing=True)
        after = torch.cuda.Event(enable_timing=True)
        before.record(stream)
        stream.wait_event(cast(torch.cuda.Event, mark))
        after.record(stream)
        self._waits.append((before, after))
        self._harvest()

    def settle(self) -> None:
        self._side.synchronize()
        torch.cuda.current_stream(self._device).synchronize()
        self._harvest()

    def waited(self) -> float:
        self._harvest()
        return self._waited

    def _harvest(self) -> None:
        """Add up the waits that are over; they end in order."""
        while self._waits and self._waits[0][1].query():
            before, after = self._waits.pop(0)
            self._waited += before.elapsed_time(after) / 1e3


def open_lanes(device: torch.device) -> Lanes:
    """The lanes of "cpu" or "cuda". Raises ValueError for other devices."""
    if device.type == "cpu":
        return CpuLanes()
    if device.type == "cuda":
        return CudaLanes(device)
    raise ValueError(f"weights can be streamed to cuda and cpu, not to {device.type}")
