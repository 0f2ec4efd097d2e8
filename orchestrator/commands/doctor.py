"""What works on this machine, checked for real; each failing row says what to do.

Risky imports happen in children: a broken CUDA build must not take the doctor with it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from orchestrator.errors import KissError
from orchestrator.pipeline import layers
from orchestrator.planning import vram_table
from orchestrator.planning.auto_profile import choose_profile
from orchestrator.processes import environment as warm
from orchestrator.processes.json_child import NoAnswerError, ask
from orchestrator.system import machine
from orchestrator.system.gpu import GpuMonitor
from orchestrator.weights import needs

Verdict = Literal["ok", "note", "warn", "fail"]
_PATIENCE = 2.3
"""Seconds that the libraries' own processes get; with the parent's start that makes 3."""
_WAIT = 120.0
_TORCH_PROBE = """
import json, torch
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda or "",
                  "available": torch.cuda.is_available(),
                  "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""}))
"""
_PYTORCH3D_PROBE = """
import json, pytorch3d, torch
from pytorch3d import _C
answer = {"version": pytorch3d.__version__, "gpu": False, "error": ""}
if torch.cuda.is_available():
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes
    corners = torch.tensor([[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]], device="cuda")
    faces = torch.tensor([[0, 1, 2]], device="cuda")
    try:
        found = rasterize_meshes(Meshes([corners], [faces]), 16, 0.0, 1)[0]
        torch.cuda.synchronize()
        answer["gpu"] = bool((found >= 0).any())
    except Exception as error:
        answer["error"] = str(error)
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Check:
    """One row. `remedy` says what to do when it is not ok.

    verdict  note: something that the profile which was asked for does without
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def checks(outputs: Path, profile: str = "auto", wait: bool = False) -> Iterator[Check]:
    """All rows, for a profile, one at a time. wait: for libraries that take long to load, too.

    Raises `UnknownNameError` for a profile that does not exist.
    """
    with ThreadPoolExecutor(2) as pool:
        patience = _WAIT if wait else _PATIENCE
        torch, pytorch3d = (
            pool.submit(_probe, code, patience) for code in (_TORCH_PROBE, _PYTORCH3D_PROBE)
        )
        monitor = GpuMonitor()
        has_gpu = bool(monitor.gpus())
        name, why = (profile, "asked for") if profile != "auto" else choose_profile(monitor)
        needs_card = vram_table.least_card(layers.load(name).profile) > 0
        yield Check("profile", "ok", f"{name} ({why})")
        yield _python()
        yield _packages()
        yield _driver(monitor, needs_card)
        yield from _gpus(monitor, needs_card)
        yield _warm_start()
        yield _ram(needs_card)
        yield _disk(outputs)
        yield from weight_checks(has_gpu, name)
        yield _torch(torch.result(), has_gpu)
        yield _pytorch3d(pytorch3d.result(), has_gpu)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 14):
        return Check("python", "ok", f"{version}, {sys.executable}")
    return Check(
        "python", "fail", version, "use Python 3.11 to 3.14: the wheels are made for these"
    )


def _packages() -> Check:
    needed = ("torch", "msgpack", "numpy", "scipy", "numba", "pydantic", "trimesh")
    missing = [name for name in needed if not machine.package_version(name)]
    if missing:
        remedy = "with bin/: delete .venv and start again; else: pip install . again"
        return Check("packages", "fail", f"missing: {', '.join(missing)}", remedy)
    return Check("packages", "ok", f"torch {machine.package_version('torch')}, all needed present")


def _driver(monitor: GpuMonitor, needed: bool) -> Check:
    if monitor.driver:
        return Check("driver", "ok", f"NVIDIA {monitor.driver}")
    return Check(
        "driver",
        "warn" if needed else "note",
        monitor.why_not,
        "without an NVIDIA driver only profiles for the CPU run (sketch)",
    )


def _gpus(monitor: GpuMonitor, needed: bool) -> Iterator[Check]:
    for gpu in monitor.gpus():
        text = f"{gpu.name}: {gpu.free / 2**30:.1f} of {gpu.total / 2**30:.1f} GiB free"
        roomy = gpu.free > 0.8 * gpu.total
        yield Check(
            f"cuda:{gpu.index}",
            "ok" if roomy else "warn" if needed else "note",
            text,
            "" if roomy else "other programs hold memory on this card: nvidia-smi lists them",
        )


Found: TypeAlias = tuple[dict[str, object], str]
"""What a probe answered, or {} and what went wrong; ({}, "") when it did not end in time."""


def _probe(code: str, patience: float) -> Found:
    """Run a probe in a child for at most so many seconds."""
    environment = warm.child_environment()
    environment.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    try:
        return ask(["-c", code], environment, patience), ""
    except NoAnswerError as error:
        return {}, "" if error.late else error.last_words or error.how


def _late(name: str, package: str) -> Check:
    return Check(
        name,
        "note",
        f"{machine.package_version(package)}, not loaded within {_PATIENCE:g} s",
        "kiss3d-orchestrate doctor --wait",
    )


def _torch(found: Found, has_gpu: bool) -> Check:
    answer, error = found
    if not answer and not error:
        return _late("torch", "torch")
    if error:
        return Check("torch", "fail", error, "reinstall torch (2.11 or 2.12)")
    text = f"{answer['torch']}, CUDA {answer['cuda'] or 'none'}"
    if answer["available"]:
        return Check("torch", "ok", f"{text}, sees {answer['device']}")
    if has_gpu:
        return Check(
            "torch",
            "fail",
            f"{text}, but it sees no GPU",
            "the driver may be older than torch's CUDA: update it, or install torch for yours",
        )
    return Check("torch", "ok", f"{text}, no GPU to use")


def _pytorch3d(found: Found, has_gpu: bool) -> Check:
    answer, error = found
    if not answer and not error:
        return _late("pytorch3d", "easypytorch3d")
    remedy = "ISOMER draws without it; pip install easypytorch3d==0.7.9.post1 repairs it"
    if error:
        return Check("pytorch3d", "warn", f"cannot be used: {error}", remedy)
    text = f"{answer['version']}"
    if answer["gpu"]:
        return Check("pytorch3d", "ok", f"{text}, rasterises on the GPU")
    if has_gpu:
        return Check("pytorch3d", "warn", f"{text}, not on the GPU: {answer['error']}", remedy)
    return Check("pytorch3d", "ok", f"{text}, no GPU to use")


def _warm_start() -> Check:
    reason = warm.supported()
    if not reason:
        return Check("warm starts", "ok", "fork from a template")
    return Check(
        "warm starts", "note", reason, "nothing to do: processes start cold, seconds slower"
    )


def _ram(needs_card: bool) -> Check:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available"
    if memory.available < (4 if needs_card else 2) << 30:
        return Check("host RAM", "warn", text, "sketch needs about 2 GiB, the model profiles more")
    return Check("host RAM", "ok", text)


def _disk(outputs: Path) -> Check:
    folder = outputs if outputs.is_dir() else Path.cwd()
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Check("disk", "fail", f"{folder} is not writable", "use --output DIR")
    if free < 2 << 30:
        return Check("disk", "warn", text, "`kiss3d-orchestrate clean` gives space back")
    return Check("disk", "ok", text)


def weight_checks(gpu: bool, asked: str | None = None) -> Iterator[Check]:
    """asked: the profile whose weights are needed; None: those of all."""
    for name in layers.profile_names():
        try:
            graph = needs.profile_graph(name)
            needed, missing = needs.needs(graph, gpu), needs.missing_for(graph, gpu)
            total = needs.total_gb(needed, needs.catalogue())
        except KissError as error:
            yield Check(f"weights: {name}", "fail", error.message, error.hint or "reinstall it")
            continue
        if not needed:
            yield Check(f"weights: {name}", "ok", "needs none")
        elif not missing:
            yield Check(f"weights: {name}", "ok", f"all {len(needed)} here, {total:.1f} GB")
        else:
            needed_now = asked in (None, name)
            names = f": {', '.join(item.name for item in missing)}" if needed_now else ""
            count = f"{len(missing)} of {len(needed)}"
            sizes = f"{sum(item.size for item in missing) / 1e9:.1f} of {total:.1f} GB"
            yield Check(
                f"weights: {name}",
                "warn" if needed_now else "note",
                f"{count} missing ({sizes}){names}",
                f"kiss3d-orchestrate models pull --profile {name}",
            )


def report(
    outputs: Path, show: Callable[[Check], None], profile: str = "auto", wait: bool = False
) -> bool:
    """Run all checks, showing each as it comes; true when none failed."""
    good = True
    for check in checks(outputs, profile, wait):
        show(check)
        good = good and check.verdict != "fail"
    return good
