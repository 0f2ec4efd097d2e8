"""Seconds and memory of FlexiCubes extraction, beside marching cubes of the same field.

    python -m bench.geometry.flexicubes [--quick] [--device cuda:0] [--repeats 5]

The torus has about as much surface as an object; the gyroid crosses half of all cubes. Fields and
(neutral) weights are made before the clock starts. Marching cubes is scikit-image's, on the CPU;
there both have one thread. Peak memory is what either needs on top of its inputs: of the device
where that is CUDA, else of the process as Linux counts it ("-" elsewhere), which leaves out memory
that was in use and freed before. Every case runs in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from skimage.measure import marching_cubes

from orchestrator.system.text import format_table
from stages.lrm.flexicubes.extract import extract
from stages.lrm.flexicubes.grid import vertex_count, vertex_positions

SCALE = 2.1
RESOLUTIONS = (64, 128)
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def torus(points: torch.Tensor) -> torch.Tensor:
    x, y, z = points.unbind(-1)
    return torch.hypot(torch.hypot(x, y) - 0.6, z) - 0.25


def gyroid(points: torch.Tensor) -> torch.Tensor:
    x, y, z = (40.0 * points).unbind(-1)
    return x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos()


FIELDS = {"torus": torus, "gyroid": gyroid}


@dataclass(frozen=True)
class Result:
    """faces; seconds, the least of several; peak in bytes on top of the inputs, None if unknown."""

    faces: int
    seconds: float
    peak: int | None


def measure(run: Callable[[], int], repeats: int, device: str) -> Result:
    """`run` returns the number of faces."""
    faces, peak = _peak_of(run, device)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return Result(faces, min(times), peak)


def _peak_of(run: Callable[[], int], device: str) -> tuple[int, int | None]:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        faces = run()
        return faces, torch.cuda.max_memory_allocated(device) - before
    try:
        CLEAR_REFS.write_text("5")  # sets the high-water mark back to what is used now
    except OSError:
        return run(), None
    before = _high_water()
    faces = run()
    return faces, _high_water() - before


def _high_water() -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def case(method: str, field: str, resolution: int, repeats: int, device: str) -> Result:
    """One row's half: runs in a process that does nothing else."""
    torch.set_num_threads(1)
    points = vertex_positions(torch.arange(vertex_count(resolution)), resolution, SCALE)
    values = FIELDS[field](points)
    if method == "marching cubes":
        volume = values.reshape((resolution + 1,) * 3).numpy()
        return measure(lambda: len(marching_cubes(volume, 0.0)[1]), repeats, "cpu")
    sdf, still = values.to(device), torch.zeros_like(points, device=device)

    def weights(cubes: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(cubes), 21, device=device)

    return measure(lambda: len(extract(sdf, still, weights, resolution, SCALE)[1]), repeats, device)


def in_process_of_its_own(*arguments: str | int) -> Result:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(case, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="resolution 32, once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    rows = []
    for field in FIELDS:
        for resolution in (32,) if arguments.quick else RESOLUTIONS:
            ours, theirs = (
                in_process_of_its_own(method, field, resolution, repeats, arguments.device)
                for method in ("flexicubes", "marching cubes")
            )
            row = [field, str(resolution)]
            for each in (ours, theirs):
                peak = "-" if each.peak is None else f"{each.peak / 1e6:.0f}"
                row += [f"{each.faces:,}", f"{1000.0 * each.seconds:.1f}", peak]
            rows.append([*row, f"{ours.seconds / theirs.seconds:.1f}"])
    header = (
        "field", "R", "faces", f"ms ({arguments.device})", "peak MB",
        "marching cubes: faces", "ms (cpu)", "peak MB", "time ratio",
    )  # fmt: skip
    print(format_table(header, rows))


if __name__ == "__main__":
    main()
