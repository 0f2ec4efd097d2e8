"""What a tree of processes takes, seen from outside: the card by NVML, host memory by /proc."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import psutil

from bench.streaming.watch import host_used
from orchestrator.system.gpu import GpuMonitor

CARD_SECONDS = 0.02
HOST_SECONDS = 0.2


def private_bytes(pid: int) -> int:
    """Host memory of a process beyond mapped files. What the driver itself pins may be missing."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return int(psutil.Process(pid).memory_info().rss)
    lines = status.read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


class Watch(threading.Thread):
    """Samples until `stop`. All in bytes; card figures are -1 without NVML.

    before      used on the card when it began
    card_peak   the most used since, less `before`
    host        pid -> its peak of private memory
    host_peak   of the machine, page cache left out, less what was in use when it began
    """

    def __init__(self, root: int, card: int = 0) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._monitor = GpuMonitor()
        cards = self._monitor.gpus()
        self._card = cards[card].index if cards else -1
        self._stopping = threading.Event()
        self.before = self._monitor.used(self._card)
        self.card_peak = -1
        self.host: dict[int, int] = {}
        self.host_peak = 0
        self._host_before = host_used()

    def used(self) -> int:
        """Bytes on the card now beyond `before`, -1 where it cannot be read."""
        now = self._monitor.used(self._card)
        return now - self.before if now >= 0 and self.before >= 0 else -1

    def reset(self) -> None:
        self.card_peak = -1

    def run(self) -> None:
        looked = 0.0
        while not self._stopping.wait(CARD_SECONDS):
            self.card_peak = max(self.card_peak, self.used())
            if time.monotonic() - looked >= HOST_SECONDS:
                looked = time.monotonic()
                self._look_at_host()

    def _look_at_host(self) -> None:
        self.host_peak = max(self.host_peak, host_used() - self._host_before)
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self._root)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error, OSError):
                    size = private_bytes(process.pid)
                    self.host[process.pid] = max(self.host.get(process.pid, 0), size)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
