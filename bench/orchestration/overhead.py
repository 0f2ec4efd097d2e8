"""What isolation costs: a sketch run's wall time minus the stages' own work.

    python -m bench.orchestration.overhead [IMAGE] [--repeats 5]

wall      the command's process from start to end, interpreter start included
stages    sum over the nodes of importing, loading and computing, as each measured itself
overhead  wall - stages: processes, hand-over, manifest, preview, scheduling

Baseline: the same five stages one after another in a single process ("one process"), whose overhead
is the interpreter's start and writing the files. Ratios are to its wall time. Numba's compile cache
is filled by a run that does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.processes.environment import keep_bytecode
from orchestrator.system.text import format_table

ROOT = Path(__file__).resolve().parents[2]

ONE_PROCESS = """
import json, sys, time
from pathlib import Path
from orchestrator.pipeline import layers as config
from orchestrator.pipeline.graph import Graph
from stages.contract import Context
from stages.process.stage_runner import StageRunner
from stages.process.single_job import store_output
image, output = Path(sys.argv[1]), Path(sys.argv[2])
graph = Graph.from_profile(config.load("sketch").profile)
files, spent = {("input", "input_image"): [image]}, 0.0
for name, node in graph.nodes.items():
    folder = output / name
    folder.mkdir(parents=True)
    began = time.perf_counter()
    core = StageRunner(node.config.stage, 0)
    core.load(dict(node.params), Context())
    spent += time.perf_counter() - began
    sources = {key: (s.node, s.artifact) for key, s in node.inputs.items()}
    inputs = {key: files[source] for key, source in sources.items() if source in files}
    result = core.run(inputs, folder, folder, 42, lambda *a, **k: None)
    spent += result.timings["compute"]
    for artifact, parts in result.outputs.items():
        stored = [store_output(folder, part) for part in parts]
        files[name, artifact] = [p for p in stored if p.suffix != ".png"]
print(json.dumps({"stages": spent}))
"""


@dataclass(frozen=True)
class Sample:
    """Seconds of one run."""

    wall: float
    stages: float

    @property
    def overhead(self) -> float:
        return self.wall - self.stages


def environment() -> dict[str, str]:
    """With bytecode, as `bin/` and installed commands have it."""
    path = os.environ.get("PYTHONPATH", "")
    paths = os.pathsep.join([str(ROOT), *([path] if path else [])])
    found = {**os.environ, "PYTHONPATH": paths}
    keep_bytecode(found)
    return found


def isolated(image: Path, output: Path, *options: str) -> Sample:
    """`run` through the real command line."""
    command = [
        sys.executable, "-m", "orchestrator.cli", "run", str(image), "--profile", "sketch",
        "--output", str(output), "--json", *options,
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, env=environment(), capture_output=True, check=True)
    wall = time.perf_counter() - began
    nodes = json.loads(done.stdout)["nodes"].values()
    spent = sum(
        node["timings"].get(part, 0.0) for node in nodes for part in ("import", "load", "compute")
    )
    return Sample(wall, spent)


def one_process(image: Path, output: Path) -> Sample:
    """All stages in one interpreter, files written as well."""
    command = [sys.executable, "-c", ONE_PROCESS, str(image), str(output)]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment(), capture_output=True, check=True)
    wall = time.perf_counter() - began
    return Sample(wall, json.loads(done.stdout)["stages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("image", type=Path, nargs="?", default=ROOT / "examples" / "robot.png")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    ways = {
        "one process (baseline)": lambda out: one_process(arguments.image, out),
        "isolated, warm": lambda out: isolated(arguments.image, out),
        "isolated, warm, no prefetch": lambda out: isolated(
            arguments.image, out, "--set", "runtime.prefetch=false"
        ),
        "isolated, cold": lambda out: isolated(arguments.image, out, "--no-warm"),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        isolated(arguments.image, Path(folder) / "first")
        for turn in range(arguments.repeats):  # in turns, so that a busy minute hits all alike
            for index, (name, way) in enumerate(ways.items()):
                samples[name].append(way(Path(folder) / f"{turn}-{index}"))
    base = statistics.median(sample.wall for sample in samples["one process (baseline)"])
    rows = []
    for name, runs in samples.items():
        wall = statistics.median(run.wall for run in runs)
        stages = statistics.median(run.stages for run in runs)
        overhead = statistics.median(run.overhead for run in runs)
        rows.append((name, f"{wall:.2f}", f"{stages:.2f}", f"{overhead:.2f}", f"{wall / base:.2f}"))
    print(format_table(("5 nodes", "wall s", "stages s", "overhead s", "x baseline"), rows))


if __name__ == "__main__":
    main()
