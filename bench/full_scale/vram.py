"""Rows for configs/vram.yaml from the manifests of measured runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.full_scale.bench import GIB, manifest
from orchestrator.manifest import AttemptRow
from orchestrator.vram import Row
from stages.registry import stage_class

WHEN = {
    "flux": ("placement", "storage", "width"),
    "zero123plus": ("keep_on_device",),
    "encode": ("placement",),
    "isomer": ("rasterizer",),
    "prm.reference": ("resolution",),
    "prm.reconstruct": ("resolution",),
}
"""Params that a stage's memory depends on, besides the dtype."""
STEPS = {"flux": "steps", "zero123plus": "steps"}


def rows(runs: Sequence[Path], measured: str) -> str:
    """YAML: one row for each stage and rung that succeeded on a card in one of the runs.

    Where several runs had the same rung, under different targets, the highest peak is its peak and
    the lowest one what it can do with. Seconds are those of the run with the highest peak.
    """
    found: dict[str, list[tuple[dict[str, Any], AttemptRow, dict[str, Any]]]] = {}
    for run in runs:
        document = manifest(run)
        for name, record in document.nodes.items():
            for attempt in record.attempts:
                if attempt.outcome != "done" or attempt.vram.get("peak", -1) <= 0:
                    continue
                params = _params(document.settings["nodes"][name], attempt)
                when = {key: params[key] for key in WHEN.get(record.stage, ()) if key in params}
                when["dtype"] = attempt.dtype
                key = f"{record.stage} {sorted(when.items())}"
                found.setdefault(key, []).append((when, attempt, {**params, "": record.stage}))
    entries = [_row(group, measured) for group in found.values()]
    return yaml.safe_dump(entries, sort_keys=False, width=100)


def _params(node: dict[str, Any], attempt: AttemptRow) -> dict[str, Any]:
    """All params of an attempt, defaults included."""
    stage = stage_class(str(node["stage"]))
    return stage.Params(**{**node["params"], **attempt.params}).model_dump(mode="json")


def _row(
    group: list[tuple[dict[str, Any], AttemptRow, dict[str, Any]]], measured: str
) -> dict[str, Any]:
    when, most, params = max(group, key=lambda entry: entry[1].vram["peak"])
    least = min(entry[1].vram["peak"] for entry in group)
    stage = params[""]
    row: dict[str, Any] = {"stage": stage, "when": when, "peak_gib": _up(most.vram["peak"])}
    if _up(least) < row["peak_gib"]:
        row["least_gib"] = _up(least)
    row["load_seconds"] = round(sum(most.timings.get(k, 0.0) for k in ("import", "load")), 1)
    compute = most.timings.get("compute", 0.0)
    if stage in STEPS:
        row |= {"step_seconds": round(compute / params[STEPS[stage]], 3), "steps": STEPS[stage]}
    else:
        row["job_seconds"] = round(compute, 1)
    row["measured"] = measured
    return Row(**row).model_dump(exclude_defaults=True)


def _up(size: int) -> float:
    """GiB, rounded up to a hundredth."""
    return math.ceil(size / GIB * 100) / 100
