"""What a process takes of device and host while it measures."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

GIB = 2**30


class Watch:
    """Samples device memory (NVML, whole card) and host memory beyond page cache (whole machine).

    Both are told as growth since the watch began, so nothing else may run beside.
    """

    def __init__(self, device: torch.device) -> None:
        self._handle: Any = None
        self.device_name = "cpu"
        if device.type == "cuda":
            import pynvml

            pynvml.nvmlInit()
            # torch's number 0 is the first visible one; the bench is told to see one card only.
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(_physical_index())
            self.device_name = str(pynvml.nvmlDeviceGetName(self._handle))
        self._device_before, self._host_before = self._device_used(), host_used()
        self._device_peak = self._host_peak = 0
        self._private_peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def device_growth(self) -> float:
        """GiB of device memory taken now."""
        return (self._device_used() - self._device_before) / GIB

    def stop(self) -> dict[str, float]:
        """Peaks in GiB."""
        self._ended.set()
        self._thread.join()
        return {
            "nvml_gib": self._device_peak / GIB,
            "host_gib": self._host_peak / GIB,
            "rss_anon_gib": self._private_peak / GIB,
        }

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self._device_peak = max(self._device_peak, self._device_used() - self._device_before)
            self._host_peak = max(self._host_peak, host_used() - self._host_before)
            self._private_peak = max(self._private_peak, private_bytes())

    def _device_used(self) -> int:
        if self._handle is None:
            return 0
        import pynvml

        return int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used)


def start_device(device: torch.device, watch: Watch) -> float:
    """Make the CUDA context and the libraries' work space; GiB that they take beside tensors."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.set_device(device)
    a = torch.ones(256, 256, dtype=torch.bfloat16, device=device)
    float((a @ a).sum())
    q = torch.ones(1, 2, 256, 64, dtype=torch.bfloat16, device=device)
    float(torch.nn.functional.scaled_dot_product_attention(q, q, q).sum())
    torch.cuda.synchronize(device)
    reserved = torch.cuda.memory_reserved(device) / GIB
    torch.cuda.reset_peak_memory_stats(device)
    return watch.device_growth() - reserved


def host_used() -> int:
    """Bytes of RAM in use that the system cannot take back (page cache left out)."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 0
    info = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines()}
    cache = info.get("Buffers", 0) + info.get("Cached", 0) + info.get("SReclaimable", 0)
    return info["MemTotal"] - info["MemFree"] - cache + info.get("Shmem", 0)


def private_bytes() -> int:
    """Anonymous resident memory of this process; what the driver pins may be missing from it."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """From the first kernel to the last one, by events on a card, by the clock elsewhere."""
    if device.type != "cuda":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def _physical_index() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return int(visible.split(",")[0]) if visible[:1].isdigit() else 0
