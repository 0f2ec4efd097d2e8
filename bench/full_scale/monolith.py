"""The baseline: all models in one process, loaded, run and deleted one after another.

    python -m bench.full_scale.monolith IMAGE OUTPUT PROFILE CONFIG DEVICE [NODE.PARAM=VALUE ...]

The part `monolith` starts it. Nodes and params are the profile's with CONFIG on top; each stage's
weights are resident on the card, which has no cap. After each node its stage is deleted, garbage is
collected and the allocator's cache is emptied, as a segmented pipeline does. Prints a JSON line a
node: what the card held at most while it ran, and what is left of it after.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench.full_scale.bench import gib
from bench.full_scale.watch import Watch
from orchestrator.pipeline import layers
from orchestrator.pipeline.graph import Graph, Node, Source
from orchestrator.pipeline.profile import Attempt
from stages.contract import Context
from stages.process.single_job import store_output
from stages.process.stage_runner import StageRunner

RESIDENT = {"flux": {"placement": "resident"}, "encode": {"placement": "resident"}}
THREADS = 4
"""As the orchestrator gives a stage."""

Files = dict[Source, list[Path]]


def rung_of(node: Node, device: str) -> Attempt:
    """The first rung, on the card if there is one."""
    rungs = node.config.attempts
    return next((r for r in rungs if device != "cpu" or r.device == "cpu"), rungs[0])


def run_node(node: Node, device: str, seed: int, files: Files, output: Path) -> dict[str, float]:
    """Load, run and write; everything that it made is out of scope when it returns."""
    attempt = rung_of(node, device)
    where = device if attempt.device == "cuda" else "cpu"
    params = {**node.params, **attempt.params, **RESIDENT.get(node.config.stage, {})}
    began = time.perf_counter()
    core = StageRunner(node.config.stage, 0)
    core.load(params, Context(where, attempt.dtype, threads=THREADS))
    loaded = time.perf_counter()
    inputs = {key: files[source] for key, source in node.inputs.items() if source in files}
    output.mkdir(parents=True)
    result = core.run(inputs, output, output, seed, lambda *_, **__: None)
    core.close()
    for artifact, parts in result.outputs.items():
        files[Source(node.name, artifact)] = [store_output(output, part) for part in parts]
    return {"load_s": loaded - began, "compute_s": result.timings["compute"]}


def free(device: str) -> float:
    """Seconds that giving memory back takes."""
    began = time.perf_counter()
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    image, output, profile, layer, device, *sets = sys.argv[1:]
    settings = layers.load(profile, Path(layer), sets).profile
    graph = Graph.from_profile(settings)
    files: Files = {Source("input", "input_image"): [Path(image)]}
    watch = Watch(os.getpid())
    watch.start()
    began = time.perf_counter()
    for name, node in graph.nodes.items():
        watch.reset()
        row: dict[str, Any] = {"node": name}
        try:
            row |= run_node(node, device, settings.seed, files, Path(output) / name)
        except Exception as error:  # noqa: BLE001 (its row says so, and the nodes behind it end)
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        row["free_s"] = free(device)
        row |= {"peak_gib": gib(watch.card_peak), "left_gib": gib(watch.used())}
        print(json.dumps(row), flush=True)
        if "error" in row:
            break
    watch.stop()
    total = {"node": "together", "wall_s": time.perf_counter() - began}
    print(json.dumps({**total, "host_gib": gib(watch.host_peak)}), flush=True)


if __name__ == "__main__":
    main()
