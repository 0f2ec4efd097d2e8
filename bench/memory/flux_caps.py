"""Whether the flux stage keeps to its share of the card: placement streamed under hard caps.

    python -m bench.memory.flux_caps [--models FOLDER] [--caps 5,6,8,12] [--hosts 32] [--tiny]

Runs the stage through StageRunner once for each cap and host budget (GiB), in a process of its own
whose memory is capped as the orchestrator caps it, for --steps Heun steps with the ControlNet in
every evaluation. --models is what KISS3D_MODELS may be (bench/networks/flux_step.py's or
bench.full_scale's checkpoints); without it flux_step's are written to a temporary folder.

nvml      peak of the card's memory, CUDA context included; has to be within the cap
torch     peak that torch allocated while denoising, and reserved at any time
s/eval    median of the steps after the first; one evaluation is ControlNet + transformer
enc       seconds until the first step is done: VAE, filling the card, two evaluations
dec       seconds of leaving the card and decoding; vae: plain or in tiles
host      RAM taken beyond the page cache, peak
same      whether the bundle is the first case's to the bit (plain ones and tiled ones differ)

With --tiny it rehearses on the CPU with tiny nets: caps are MiB of host memory then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.networks.flux_step import FULL, TINY, write_models
from orchestrator.system.text import format_table

GIB = 1 << 30
WHOLE = 5.5
"""GiB of the card from which on the stage decodes 1024 x 2048 in one piece."""
HEADER = ("cap", "hosts", "nvml", "torch", "reserved", "s/eval", "load", "enc", "dec", "vae",
          "host", "same")  # fmt: skip


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One case, in this process."""
    from stages.process.vram_cap import cap_device_memory

    tiny = arguments.tiny
    unit = 1 << 20 if tiny else GIB
    cap, host = (round(float(text) * unit) for text in arguments.case.split(","))
    if not tiny:
        cap_device_memory(cap)
    import torch

    from bench.streaming.watch import Watch
    from stages.contract import Context
    from stages.process.stage_runner import StageRunner

    watch = Watch(torch.device("cpu" if tiny else "cuda:0"))
    marks: list[tuple[str, float]] = []
    peaks = {"torch": 0, "reserved": 0}
    tiled = not tiny and cap < WHOLE * GIB

    def progress(_step: int, _total: int, note: str = "") -> None:
        if not tiny:
            torch.cuda.synchronize()
            if note == "decode":
                peaks["torch"] = torch.cuda.max_memory_allocated()
        marks.append((note, time.perf_counter()))

    if tiny:
        context = Context("cpu", "float32", threads=1, host_bytes=cap)
    else:
        threads = os.cpu_count() or 1
        context = Context("cuda:0", "bfloat16", threads=threads, vram_bytes=cap, host_bytes=host)
    core = StageRunner("flux", inline_max_bytes=0)
    params = {
        "transformer": "flux1-dev-transformer",
        "width": 2 * arguments.height,
        "height": arguments.height,
        "steps": arguments.steps,
        "strength": 0.95,
        "controlnet": [{"mode": "tile", "end": 1.0}],
        "lora_scale": 0.0,
        "placement": "streamed",
        "vae_tiling": tiled,
    }
    began = time.perf_counter()
    core.load(params, context)
    load = time.perf_counter() - began
    folder = Path(arguments.folder)
    files = {path.stem: [path] for path in folder.glob("*.npy") if path.stem != "bundle"}
    try:
        result = core.run(files, folder, folder, 42, progress)
        if not tiny:
            peaks["reserved"] = torch.cuda.max_memory_reserved()
    finally:
        core.close()
    (bundle,) = result.outputs["bundle"]
    (folder / bundle.temp).rename(folder / "bundle.npy")
    steps = [at for note, at in marks if note.startswith("step ")]
    at = dict(marks)
    spent = [(b - a) / 2.0 for a, b in itertools.pairwise(steps[:-1])]
    return {
        **watch.stop(),
        **{name: value / GIB for name, value in peaks.items()},
        "s_eval": statistics.median(spent) if spent else -1.0,
        "load": load,
        "first_step": steps[0] - marks[0][1],
        "decode": marks[-1][1] - at["decode"],
        "tiled": tiled,
    }


def in_process(case: str, folder: Path, models: Path, arguments: argparse.Namespace) -> Any:
    """`measure` in a process of its own; the end of its error where it fails."""
    command = [
        sys.executable,
        "-m",
        "bench.memory.flux_caps",
        "--case",
        case,
        "--folder",
        str(folder),
    ]
    command += ["--height", str(arguments.height), "--steps", str(arguments.steps)]
    command += ["--tiny"] if arguments.tiny else []
    environment = {**os.environ, "KISS3D_MODELS": str(models)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def write_inputs(folder: Path, arguments: argparse.Namespace) -> None:
    import numpy as np

    size = TINY if arguments.tiny else FULL
    rng = np.random.default_rng(0)
    height = arguments.height
    np.save(folder / "reference_bundle.npy", rng.random((height, 2 * height, 3), np.float32))
    tokens = rng.standard_normal((size.tokens, size.text)).astype(np.float32)
    np.save(folder / "prompt_embeds.npy", tokens)
    np.save(folder / "pooled_embeds.npy", rng.standard_normal(size.pooled).astype(np.float32))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="where the checkpoints are")
    parser.add_argument("--caps", default="5,6,8,12", help="GiB of the card, one run each")
    parser.add_argument("--hosts", default="32", help="GiB of host memory, one run each")
    parser.add_argument("--height", type=int, default=1024, help="pixels; the width is twice that")
    parser.add_argument("--steps", type=int, default=4, help="Heun steps, 4 or more")
    parser.add_argument("--tiny", action="store_true", help="tiny nets on the CPU, to rehearse")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments)))
        return 0
    import numpy as np

    rows: list[tuple[Any, ...]] = []
    exceeded = False
    first = None
    with tempfile.TemporaryDirectory() as scratch:
        models = arguments.models or Path(scratch) / "models"
        if not arguments.models:
            small = arguments.tiny
            write_models(models, TINY if small else FULL, "cpu" if small else "cuda:0", False)
        folder = Path(scratch)
        write_inputs(folder, arguments)
        for cap in arguments.caps.split(","):
            for host in arguments.hosts.split(","):
                found = in_process(f"{cap},{host}", folder, models, arguments)
                print(cap, host, found, file=sys.stderr)
                if isinstance(found, str):
                    exceeded = True
                    rows.append((cap, host, found[:70], *[""] * (len(HEADER) - 3)))
                    continue
                exceeded |= found["nvml_gib"] > float(cap)
                bundle = np.load(folder / "bundle.npy")
                first = bundle if first is None else first
                names = ("nvml_gib", "torch", "reserved", "s_eval", "load", "first_step", "decode")
                numbers = [f"{found[name]:.2f}" for name in names]
                rows.append((cap, host, *numbers, "tiles" if found["tiled"] else "plain",
                             f"{found['host_gib']:.1f}",
                             "yes" if np.array_equal(bundle, first) else "no"))  # fmt: skip
    print(format_table(HEADER, rows))
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
