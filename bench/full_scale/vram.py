"""Rows for configs/vram.yaml from the manifests of measured runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.full_scale.bench import GIB, manifest
from orchestrator.planning.vram_table import VramRow
from orchestrator.record.manifest import AttemptRow
from stages.contract.registry import stage_class

WHEN = {
    "flux": ("placement", "storage", "width", "sampler", "vae_tiling"),
    "zero123plus": ("keep_on_device", "view_size"),
    "encode": ("placement",),
    "isomer": ("rasterizer",),
    "prm.reference": ("resolution",),
    "prm.reconstruct": ("resolution",),
}
"""Params that a stage's memory depends on, besides the dtype."""
STEPS = {"flux": "steps", "zero123plus": "steps"}


@dataclass(frozen=True)
class Sample:
    """One successful attempt on a card. when: what the row is to ask for; host: GiB, 0 unknown."""

    stage: str
    when: Mapping[str, Any]
    steps: int
    attempt: AttemptRow
    host: float

    @property
    def peak(self) -> float:
        """GiB, rounded up to a hundredth."""
        return math.ceil(int(self.attempt.vram["peak"]) / GIB * 100) / 100


def rows(runs: Sequence[Path], results: Path, measured: str) -> str:
    """YAML: one row for each stage and rung that succeeded on a card in one of the runs.

    Where several runs had the same rung, under different targets, the highest peak is its peak and
    the lowest one what it can do with. Seconds are those of the run with the highest peak. Host
    memory is taken from `results`, the JSON lines that the parts wrote.
    """
    host = _host(results)
    groups: dict[str, list[Sample]] = {}
    for run in runs:
        document = manifest(run)
        for name, record in document.nodes.items():
            for attempt in record.attempts:
                if attempt.outcome == "done" and attempt.vram.get("peak", -1) > 0:
                    node = document.settings["nodes"][name]
                    sample = _sample(node, attempt, host.get((run.resolve(), name), 0.0))
                    key = f"{sample.stage} {sorted(sample.when.items())}"
                    groups.setdefault(key, []).append(sample)
    entries = [_row(group, measured) for group in groups.values()]
    return yaml.safe_dump(entries, sort_keys=False, width=100)


def _host(results: Path) -> dict[tuple[Path, str], float]:
    """GiB of private memory by run directory and node."""
    found: dict[tuple[Path, str], float] = {}
    if results.is_file():
        for line in results.read_text().splitlines():
            row = json.loads(line)
            if row.get("host_gib") and "run" in row and "node" in row:
                found[Path(row["run"]), row["node"]] = row["host_gib"]
    return found


def _sample(node: Mapping[str, Any], attempt: AttemptRow, host: float) -> Sample:
    stage = str(node["stage"])
    known = (
        stage_class(stage).Params(**{**node["params"], **attempt.params}).model_dump(mode="json")
    )
    when = {key: known[key] for key in WHEN.get(stage, ()) if key in known}
    steps = int(known[STEPS[stage]]) if stage in STEPS else 0
    return Sample(stage, {**when, "dtype": attempt.dtype}, steps, attempt, host)


def _row(group: Sequence[Sample], measured: str) -> dict[str, Any]:
    most = max(group, key=lambda sample: sample.peak)
    least = min(group, key=lambda sample: sample.peak)
    timings = most.attempt.timings
    compute = timings.get("compute", 0.0)
    row: dict[str, Any] = {"stage": most.stage, "when": most.when, "peak_gib": most.peak}
    if least.peak < most.peak:
        row["least_gib"] = least.peak
    row["host_gib"] = round(max(sample.host for sample in group), 2)
    row["load_seconds"] = round(sum(timings.get(part, 0.0) for part in ("import", "load")), 1)
    if most.steps:
        row |= {"step_seconds": round(compute / most.steps, 3), "steps": STEPS[most.stage]}
    else:
        row["job_seconds"] = round(compute, 1)
    return VramRow(**row, measured=measured).model_dump(exclude_defaults=True)
