"""What this machine is, without importing anything heavy: for the manifest and the doctor."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from orchestrator import __version__
from orchestrator.system.gpu import GpuMonitor

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "easypytorch3d",
    "numpy",
    "scipy",
    "numba",
    "opencv-python-headless",
    "msgpack",
    "trimesh",
)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def package_version(name: str) -> str:
    """Installed version of a distribution, or ""."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def describe(monitor: GpuMonitor) -> dict[str, Any]:
    """Facts for the manifest: system, cores, memory, cards and package versions."""
    import psutil

    return {
        "kiss3d_orchestrate": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": cores(),
        "ram_bytes": psutil.virtual_memory().total,
        "gpus": [{"index": g.index, "name": g.name, "total": g.total} for g in monitor.gpus()],
        "gpu_note": monitor.why_not,
        "driver": monitor.driver,
        "packages": {name: package_version(name) for name in PACKAGES},
    }
