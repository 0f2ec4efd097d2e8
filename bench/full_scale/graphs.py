"""Small graphs that the bench runs beside the profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bench.full_scale.bench import Bench

Nodes = dict[str, dict[str, Any]]
Rung = dict[str, Any]

ON_PYTORCH3D: Rung = {"device": "cuda", "tries": 1, "params": {"rasterizer": "pytorch3d"}}
ON_TORCH: Rung = {"device": "cuda", "tries": 1, "params": {"rasterizer": "torch"}}
ON_CPU: Rung = {"device": "cpu", "params": {"rasterizer": "cpu"}}
STAGE2_STEPS = 50
"""As in full_12gb."""

_SKETCH: Nodes = {
    "preprocess": {"stage": "preprocess"},
    "multiview": {"stage": "inflate"},
    "reference": {"stage": "hull.reference"},
}
SKETCH_PRM: Nodes = {
    **_SKETCH,
    "reconstruct": {
        "stage": "prm.reconstruct",
        "reads": {"bundle": "reference_bundle"},
        "attempts": [{"device": "cuda"}, {"device": "cpu"}],
    },
}
"""PRM on the bundle of a real object. Its weights are random all the same: the mesh is a blob."""


def sketch_isomer(attempts: list[Rung]) -> Nodes:
    """ISOMER on the bundle and the hull of a real object."""
    return {
        **_SKETCH,
        "reconstruct": {"stage": "hull.reconstruct", "reads": {"bundle": "reference_bundle"}},
        "isomer": {
            "stage": "isomer",
            "reads": {"bundle": "reference_bundle"},
            "params": {"stage2_steps": STAGE2_STEPS},
            "timeout": 3600,
            "attempts": attempts,
        },
    }


def write(bench: Bench, name: str, nodes: Nodes) -> Path:
    """The graph as a file for --config. In a rehearsal every rung is on the CPU."""
    if bench.tiny:
        nodes = {
            node: {**settings, "attempts": [_on_cpu(rung) for rung in settings["attempts"]]}
            if "attempts" in settings
            else settings
            for node, settings in nodes.items()
        }
    path = bench.work / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"profile": "none", "nodes": nodes}))
    return path


def _on_cpu(rung: Rung) -> Rung:
    return {**rung, "device": "cpu"}
