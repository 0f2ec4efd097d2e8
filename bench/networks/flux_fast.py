"""What makes the flux stage faster, one way after another: seconds an evaluation, and how far off.

    python -m bench.networks.flux_fast --models FOLDER [--ways resident,fp8,...] [--tiny]
        [--out FILE] [--minutes 9]

Random checkpoints of FLUX.1-dev, ControlNet-Union and the VAE (`bench.networks.flux_step` writes
them, 29 GiB, once). Each way runs the stage's own job: 1024 x 2048, 20 steps at strength 0.95, the
ControlNet up to 0.65 of the evaluations. All run in one process, which is held to the way's GiB.

s/eval    median, of evaluations with the ControlNet and without; x: to the first way's
load, job seconds of loading, and of the job from encoding to the bundle
compile   seconds of compiling within the job
GiB       the most that torch's allocator gave out, without the CUDA context
first     relative L2 error of the first evaluation's velocity; second: of the second one's, which
          is the first that can be compiled; end: of what is decoded
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.networks.flux_step import FULL, GIB, TINY, Size, write_models
from orchestrator.system.text import format_table
from stages.contract import Context, StageError
from stages.flux.denoise import Denoiser
from stages.flux.params import FluxParams
from stages.flux.stage import Flux
from stages.process.vram_cap import CONTEXT_BYTES

PEC = {"sampler": "heun_pec"}
SIX = {"placement": "streamed", "gib": 6.0}
WAYS: dict[str, dict[str, Any]] = {
    "resident": PEC,
    "resident, heun": {},
    "streamed": PEC | SIX,
    "streamed, heun": SIX,
    "int8": PEC | {"compute": "int8"},
    "fp8": PEC | {"compute": "fp8"},
    "w8a8 streamed": PEC | SIX | {"compute": "w8a8"},
    "compiled streamed": PEC | SIX | {"compile": "blocks"},
    "w8a8 compiled streamed": PEC | SIX | {"compute": "w8a8", "compile": "blocks"},
    "int8 compiled": PEC | {"compute": "int8", "compile": "blocks"},
    "cache 0.05 streamed": PEC | SIX | {"cache": 0.05},
    "cache 0.1 streamed": PEC | SIX | {"cache": 0.1},
    "w8a8 compiled cache 0.1 streamed": PEC
    | SIX
    | {"compute": "w8a8", "compile": "blocks", "cache": 0.1},
    "w8a8 cache 0.1 streamed": PEC | SIX | {"compute": "w8a8", "cache": 0.1},
    "w8a8 streamed, 5 GiB, tiles": PEC
    | {"placement": "streamed", "gib": 5.0, "compute": "w8a8", "vae_tiling": True},
    "auto resident": PEC | {"compute": "auto", "compile": "auto"},
    "auto streamed": PEC | SIX | {"compute": "auto", "compile": "auto"},
    "streamed 4": PEC | {"placement": "streamed", "gib": 4.0, "vae_tiling": True},
}
"""The first is what all others are compared with. `gib` is the process's cap, context included."""


@dataclass
class Sample:
    """One way's run; seconds and bytes. velocities: of the first two evaluations, and the bundle's
    last state, on the CPU."""

    way: str
    load: float
    job: float
    with_control: float
    without: float
    peak: int
    said: list[str]
    velocities: list[torch.Tensor] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        figures = asdict(self)
        del figures["velocities"]
        return figures


@contextmanager
def seen_velocities(found: list[torch.Tensor]) -> Iterator[None]:
    """Note the first two evaluations' results, and the state in the end."""
    usual, run = Denoiser._velocity, Denoiser.run

    def velocity(self: Denoiser, *arguments: Any) -> torch.Tensor:
        value = usual(self, *arguments)
        if len(found) < 2:
            found.append(value.cpu())
        return value

    def watched(self: Denoiser, *arguments: Any) -> torch.Tensor:
        value = run(self, *arguments)
        found.append(value.cpu())
        return value

    Denoiser._velocity, Denoiser.run = velocity, watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        Denoiser._velocity, Denoiser.run = usual, run  # type: ignore[method-assign]


def measure(way: str, size: Size, height: int, steps: int, device: str) -> Sample:
    """Load the stage, run one job. Raises StageError where the way does not fit."""
    settings = dict(WAYS[way])
    cap = int(settings.pop("gib", 0.0) * GIB)
    cuda = device.startswith("cuda")
    if cuda:
        total = torch.cuda.get_device_properties(0).total_memory
        share = (cap - CONTEXT_BYTES) / total if cap else 1.0
        torch.cuda.set_per_process_memory_fraction(share)
        torch.cuda.reset_peak_memory_stats()
    moments: list[float] = []
    said: list[str] = []

    def progress(_step: int, _total: int, note: str = "") -> None:
        if note.startswith("step "):
            moments.append(time.perf_counter())

    def warn(text: str, *, degraded: bool = False) -> None:
        said.append(f"degraded: {text}" if degraded else text)

    context = Context(
        device,
        "bfloat16",
        threads=torch.get_num_threads(),
        progress=progress,
        warn=warn,
        vram_bytes=cap,
    )
    params = FluxParams(
        transformer="flux1-dev-transformer",
        width=2 * height,
        height=height,
        steps=steps,
        lora="",
        **settings,
    )
    rng = np.random.default_rng(0)
    inputs = {
        "reference_bundle": rng.random((height, 2 * height, 3), np.float32),
        "prompt_embeds": rng.standard_normal((size.tokens, size.text)).astype(np.float32),
        "pooled_embeds": rng.standard_normal(size.pooled).astype(np.float32),
    }
    stage = Flux(params)
    found: list[torch.Tensor] = []
    try:
        began = time.perf_counter()
        stage.load(context)
        load = time.perf_counter() - began
        began = time.perf_counter()
        with seen_velocities(found):
            stage.run(inputs, context)
        job = time.perf_counter() - began
    finally:
        stage.close()
        del stage
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0)
    spent = np.diff(moments) / (2 if params.sampler == "heun" else 1)
    ends = max(2, int(0.65 * len(spent)))  # the step in which the control ends is left out
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    with_control = statistics.median(spent[1 : ends - 1]) if ends > 2 else float(spent[0])
    without = statistics.median(spent[ends + 1 : -1]) if len(spent) > ends + 2 else float(spent[-1])
    return Sample(way, load, job, with_control, without, peak, said, found)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def row(sample: Sample, first: Sample) -> tuple[str, ...]:
    """Of the table; errors are told where the evaluations are of the same states."""
    errors = ["-"] * 3
    if sample is not first:
        pairs = zip(sample.velocities, first.velocities, strict=True)
        errors = [f"{relative(one, other):.4f}" for one, other in pairs]
    return (
        sample.way,
        f"{sample.with_control:.3f}",
        f"{sample.with_control / first.with_control:.2f}",
        f"{sample.without:.3f}",
        f"{sample.load:.1f}",
        f"{sample.job:.1f}",
        f"{sample.peak / GIB:.2f}",
        *errors,
    )


HEADER = ("way", "s/eval", "x", "s without", "load s", "job s", "GiB", "first", "second", "end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="names, in quotes")
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no way after these")
    parser.add_argument("--out", type=Path, help="JSON lines, one as soon as it is there")
    parser.add_argument("--tiny", action="store_true", help="tiny nets, for a rehearsal")
    arguments = parser.parse_args()
    if unknown := set(arguments.ways) - set(WAYS):
        parser.error(f"unknown ways {', '.join(sorted(unknown))}; known: {', '.join(WAYS)}")
    os.environ["KISS3D_MODELS"] = str(arguments.models)
    size = TINY if arguments.tiny else FULL
    began = time.perf_counter()
    write_models(arguments.models, size, arguments.device, False)
    print(f"checkpoints after {time.perf_counter() - began:.0f} s", flush=True)
    samples: list[Sample] = []
    for way in arguments.ways:
        if time.perf_counter() - began > 60.0 * arguments.minutes:
            print(f"{way}: no time left", flush=True)
            continue
        try:
            sample = measure(way, size, arguments.height, arguments.steps, arguments.device)
        except (StageError, torch.OutOfMemoryError) as error:
            told: dict[str, Any] = {"way": way, "failed": str(error)}
        else:
            samples.append(sample)
            told = sample.told()
            cells = zip(HEADER, row(sample, samples[0]), strict=True)
            print("  ".join(f"{name} {cell}" for name, cell in cells), flush=True)
        print(json.dumps(told), flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(json.dumps(told) + "\n")
    print(format_table(HEADER, [row(sample, samples[0]) for sample in samples]))


if __name__ == "__main__":
    main()
