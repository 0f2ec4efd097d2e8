"""What a crash costs on the card, and that ISOMER ends in the same mesh without pytorch3d."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.full_scale.bench import Bench, fresh, gib, manifest
from bench.full_scale.certificate import Request, run
from bench.full_scale.compare import tiny_sets
from bench.full_scale.graphs import ON_CPU, ON_PYTORCH3D, ON_TORCH, Nodes, sketch_isomer, write
from devtools.fakes import broken_pytorch3d
from orchestrator.system.text import format_table
from stages.contract import Mesh
from stages.evaluation import compare_surfaces

HELD_GIB = 20.0
CHAMFER = 1e-3
SAMPLES = 50_000

_ENTRY_POINTS = """[kiss3d.stages]
fake.source = devtools.fakes.stages:Source
fake.trouble = devtools.fakes.stages:Trouble
fake.sink = devtools.fakes.stages:Sink
fake.cuda = devtools.fakes.cuda:Cuda
"""


def fake_package(folder: Path) -> Path:
    """Make devtools/fakes look like an installed package that registers stages."""
    info = folder / "kiss3d_fakes-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kiss3d-fakes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_ENTRY_POINTS)
    return folder


def crashes(bench: Bench) -> bool:
    """A stage that holds 20 GiB is killed, or reads where it must not; the next rung runs."""
    package = fake_package(bench.work / "site")
    lines, good = [], True
    for mode in ("killed", "illegal_access"):
        row: dict[str, Any] = {"fault": mode}
        try:
            row |= _crash(bench, mode, package)
        except Exception as error:  # noqa: BLE001 (one fault must not hide the other)
            row |= {"error": f"{type(error).__name__}: {error}"[:300], "recovered": False}
        bench.record("crash", **row)
        good = good and row["recovered"]
        lines.append([str(row.get(key, "-")) for key in _CRASH_COLUMNS])
    print(f"\ncrashes of a stage that holds {HELD_GIB:g} GiB")
    print(format_table(_CRASH_COLUMNS, lines), flush=True)
    return good


_CRASH_COLUMNS = (
    "fault",
    "outcome",
    "held_gib",
    "missing_gib",
    "memory",
    "release_s",
    "next_rung_s",
)


def _crash(bench: Bench, mode: str, package: Path) -> dict[str, Any]:
    if bench.tiny:  # the same ends without a card
        broken = {"stage": "fake.trouble"}
        wrong: dict[str, Any] = {"mode": "gpu_fault" if mode == "illegal_access" else mode}
        right: dict[str, Any] = {"mode": "ok"}
    else:
        broken = {"stage": "fake.cuda"}
        wrong = {"gib": HELD_GIB, "mode": mode}
        right = {"gib": 1.0, "mode": "ok"}
    rungs = [{"device": "cuda", "tries": 1, "params": each} for each in (wrong, right)]
    nodes: Nodes = {
        "source": {"stage": "fake.source"},
        "middle": {**broken, "attempts": rungs},
        "sink": {"stage": "fake.sink"},
    }
    numbers = bench.work / "numbers.txt"
    numbers.write_text("1 2 3")
    request = Request("none", 0.0, 0.0, {}, config=write(bench, f"crash-{mode}", nodes))
    output, done = run(replace(bench, image=numbers), f"crash-{mode}", request, package)
    if done.error:
        raise RuntimeError(done.error)
    first, *others = manifest(output).nodes["middle"].attempts
    second = others[-1]
    back = first.vram.get("after", -1) - first.vram.get("before", -1)
    return {
        "outcome": first.outcome,
        "message": first.message[:200],
        "move": first.move,
        "held_gib": gib(first.vram.get("peak", -1)),
        "missing_gib": None if first.vram.get("after", -1) < 0 else round(back / 2**30, 3),
        "memory": first.vram.get("verdict", ""),
        "release_s": round(first.vram.get("seconds", 0.0), 2),
        "next_rung_s": round(second.started + second.seconds - first.started - first.seconds, 2),
        "recovered": second.outcome == "done",
    }


def isomer(bench: Bench) -> bool:
    """ISOMER with pytorch3d as it is, hidden, and broken in its kernel; each against the CPU."""
    good, lines = True, []
    meshes: dict[str, Mesh] = {}
    site = fresh(bench.work / "broken" / "site")
    ways: dict[str, tuple[list[dict[str, Any]], tuple[Path, ...]]] = {
        "cpu": ([ON_CPU], ()),
        "torch": ([ON_TORCH], ()),
        "hidden": (
            [ON_PYTORCH3D, ON_CPU],
            (broken_pytorch3d.write(site / "hidden", "import_error"),),
        ),
        "kernel error": (
            [ON_PYTORCH3D, ON_CPU],
            (broken_pytorch3d.write(site / "kernel", "cuda_error", harmless=1),),
        ),
    }
    if not bench.tiny:  # on a CPU pytorch3d takes minutes a picture
        ways["pytorch3d"] = ([ON_PYTORCH3D], ())
    for way, (attempts, hidden) in ways.items():
        began = time.monotonic()
        row: dict[str, Any] = {"way": way}
        try:
            row |= _isomer(bench, way.replace(" ", "-"), attempts, hidden)
            reference = meshes.get("cpu")
            meshes[way] = row.pop("mesh")
            if reference is not None:
                found = compare_surfaces(meshes[way], reference, samples=SAMPLES)
                row["chamfer_to_cpu"] = float(found.chamfer_l1)
                good = good and row["chamfer_to_cpu"] <= CHAMFER and not row["degraded"]
        except Exception as error:  # noqa: BLE001 (pytorch3d itself may be missing here)
            row["error"] = f"{type(error).__name__}: {error}"[:300]
            good = False
        row["command_s"] = round(time.monotonic() - began, 1)
        bench.record("isomer fault", **row)
        lines.append([_cell(row.get(key)) for key in _ISOMER_COLUMNS])
    print("\nISOMER without pytorch3d: the CPU's mesh")
    print(format_table(_ISOMER_COLUMNS, lines), flush=True)
    return good


_ISOMER_COLUMNS = (
    "way",
    "outcomes",
    "on",
    "node_s",
    "faces",
    "chamfer_to_cpu",
    "degraded",
    "error",
)


def _isomer(
    bench: Bench,
    way: str,
    attempts: list[dict[str, Any]],
    hidden: tuple[Path, ...],
) -> dict[str, Any]:
    nodes = sketch_isomer(attempts)
    file = write(bench, f"isomer-{way}", nodes)
    request = Request("none", 0.0, 0.0, {}, tiny_sets(bench, nodes), file)
    output, done = run(bench, f"isomer-{way}", request, *hidden)
    if done.error:
        raise RuntimeError(done.error)
    record = manifest(output).nodes["isomer"]
    first, last = record.attempts[0], record.attempts[-1]
    mesh = Mesh(
        np.load(output / "isomer" / "mesh.vertices.npy", allow_pickle=False),
        np.load(output / "isomer" / "mesh.faces.npy", allow_pickle=False),
    )
    return {
        "mesh": mesh,
        "outcomes": " -> ".join(row.outcome for row in record.attempts),
        "messages": [row.message[:200] for row in record.attempts[:-1]],
        "on": last.device,
        "compute_s": round(last.timings.get("compute", 0.0), 2),
        "node_s": round(last.started + last.seconds - first.started, 2),
        "peak_gib": gib(last.vram.get("peak", -1)),
        "faces": len(mesh.faces),
        "degraded": record.degraded,
    }


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2g}" if isinstance(value, float) and value < 0.1 else str(value)
