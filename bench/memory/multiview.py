"""What stage zero123plus takes on a card, at the published size: peaks and seconds.

    python -m bench.memory.multiview [--steps 5] [--models FOLDER] [--cap GIB] [--tiny]

Random weights of the published architecture and size (memory and time do not depend on the values)
are written once, 4 GB, to FOLDER, by default a temporary one. Each way then loads and runs the real
stage in a process of its own, two pictures, and the second one's figures are shown:

    all resident (baseline)   every network stays on the card from its first use, the text encoder
                              too, as the reference keeps them
    in turns                  the stage's default: one network at a time is on the card
    in turns, tiled VAE       vae_tiling=True

encode, denoise, decode   GiB that torch had allocated at most during the phase
reserved                  GiB that torch's allocator had taken from the driver at most
device                    GiB by which the card's used memory rose at most (NVML), context included
host                      GiB of the process's private memory at most (mapped files not counted)
s/step, s/picture         of one denoising step (median), of the whole picture

--cap limits torch's allocator. --tiny rehearses it all with tiny networks, on the CPU if need be.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from orchestrator.system.gpu import GpuMonitor
from orchestrator.system.text import format_table
from stages.contract import Context

GIB = 1 << 30
PHASES = ("encoding the picture", "denoising", "decoding")
BASELINE = "all resident (baseline)"
WAYS: dict[str, dict[str, Any]] = {
    BASELINE: {"keep_on_device": True},
    "in turns": {},
    "in turns, tiled VAE": {"vae_tiling": True},
}
COLUMNS = (
    "way", "encode", "denoise", "decode", "reserved", "device", "host", "s/step", "s/picture",
    "x baseline",
)  # fmt: skip


def build(folder: Path, tiny: bool) -> None:
    """Write the checkpoints, unless a complete set is there."""
    import torch

    from devtools.tiny.zero123plus import PUBLISHED, TINY, build_flexgen, build_zero123plus

    done = folder / "complete"
    if done.exists():
        return
    sizes = TINY if tiny else PUBLISHED
    build_zero123plus(folder, sizes, torch.float16)
    build_flexgen(folder, sizes, torch.float16)
    done.touch()


# --- the measured process -------------------------------------------------------------------------


@dataclass
class Meter:
    """Receives the stage's progress; knows the peak of each phase and the time of each step."""

    cuda: bool
    allocated: dict[str, float] = field(default_factory=dict)
    reserved: float = 0.0
    steps: list[float] = field(default_factory=list)
    _phase: str = ""
    _last: float = 0.0

    def __call__(self, step: int, total: int, note: str = "") -> None:
        now = time.perf_counter()
        if note == self._phase:
            self.steps.append(now - self._last)
        elif self.cuda:
            import torch

            if self._phase:
                self.allocated[self._phase] = torch.cuda.max_memory_allocated() / GIB
                self.reserved = max(self.reserved, torch.cuda.max_memory_reserved() / GIB)
            torch.cuda.reset_peak_memory_stats()
        self._phase, self._last = note, now


def measure(way: str, steps: int, tiny: bool, cap: float) -> dict[str, Any]:
    """Load the stage, run two pictures, and return the second one's figures."""
    import torch

    from stages.multiview.zero123plus.params import Zero123PlusParams
    from stages.multiview.zero123plus.stage import Zero123PlusStage
    from stages.multiview.zero123plus.weights import load_text_encoder
    from stages.weights.catalogue import find

    cuda = torch.cuda.is_available()
    device, dtype = ("cuda:0", "float16") if cuda else ("cpu", "float32")
    if cap and cuda:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(cap * GIB / total)
    size = {"view_size": 64} if tiny else {}
    stage = Zero123PlusStage(Zero123PlusParams(steps=steps, **size, **WAYS[way]))
    stage.load(Context(device=device, dtype=dtype))
    kept = None
    if way == BASELINE:
        folder = find("zero123plus") / "text_encoder"
        kept = load_text_encoder(folder, getattr(torch, dtype)).to(device)
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    for _ in range(2):  # the first picture also pays for cuDNN's and cuBLAS's start
        meter = Meter(cuda)
        began = time.perf_counter()
        context = Context(device=device, dtype=dtype, progress=meter)
        stage.run({"image": image}, context)
        seconds = time.perf_counter() - began
    del kept
    return {
        **meter.allocated,
        "reserved": meter.reserved,
        "step": statistics.median(meter.steps),
        "picture": seconds,
        "card": torch.cuda.get_device_name() if cuda else "the CPU",
        "torch": torch.__version__,
    }


# --- the process that watches ---------------------------------------------------------------------


@dataclass
class Watch:
    """Highest levels seen while a process ran, in GiB; -1 for what cannot be seen."""

    device: float = -1.0
    host: float = -1.0


def watched(command: Sequence[str], environment: dict[str, str]) -> tuple[str, Watch]:
    """Run a command to its end, sampling the card's level and the process's private memory."""
    monitor = GpuMonitor()
    cards = monitor.gpus()
    card = cards[0].index if cards else -1
    before = monitor.used(card)
    watch = Watch()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    process = psutil.Process(child.pid)
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.01):
            if before >= 0:
                watch.device = max(watch.device, (monitor.used(card) - before) / GIB)
            try:
                memory = process.memory_info()
            except psutil.Error:
                return
            private = memory.rss - getattr(memory, "shared", 0)
            watch.host = max(watch.host, private / GIB)

    sampler = threading.Thread(target=sample)
    sampler.start()
    output, _ = child.communicate()
    ended.set()
    sampler.join()
    return output, watch


def cells(way: str, figures: dict[str, Any], watch: Watch, baseline: float) -> tuple[str, ...]:
    """One line of the table."""

    def gib(value: float) -> str:
        return f"{value:.2f}" if value > 0 else "-"

    return (
        way,
        *(gib(figures.get(phase, 0.0)) for phase in PHASES),
        gib(figures["reserved"]),
        gib(watch.device),
        gib(watch.host),
        f"{figures['step']:.3f}",
        f"{figures['picture']:.2f}",
        f"{figures['picture'] / baseline:.2f}" if baseline else "-",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--models", type=Path, help="folder for the checkpoints, kept")
    parser.add_argument("--cap", type=float, default=0.0, help="GiB that torch may take")
    parser.add_argument("--tiny", action="store_true", help="rehearse with tiny networks")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        result = measure(arguments.way, arguments.steps, arguments.tiny, arguments.cap)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as temporary:
        models = arguments.models or Path(temporary)
        build(models, arguments.tiny)
        environment = {**os.environ, "KISS3D_MODELS": str(models)}
        rows: list[tuple[str, ...]] = []
        baseline, where = 0.0, "every way failed"
        for way in WAYS:
            command = [
                sys.executable,
                "-m",
                "bench.memory.multiview",
                "--way",
                way,
                "--steps",
                str(arguments.steps),
            ]
            command += ["--cap", str(arguments.cap), *(["--tiny"] if arguments.tiny else [])]
            output, watch = watched(command, environment)
            if not output.strip():  # its traceback is on stderr
                rows.append((way, *["failed"] * (len(COLUMNS) - 1)))
                continue
            figures = json.loads(output.strip().splitlines()[-1])
            baseline = figures["picture"] if way == BASELINE else baseline
            rows.append(cells(way, figures, watch, baseline))
            where = f"{figures['card']}, torch {figures['torch']}, {arguments.steps} steps"
    print(where)
    print(format_table(COLUMNS, rows))


if __name__ == "__main__":
    main()
