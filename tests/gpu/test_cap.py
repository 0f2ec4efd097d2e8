"""On a real card: a process is kept to its share, and falls down its ladder when it wants more."""

from __future__ import annotations

import json

import pytest
import yaml

from orchestrator.system.gpu import GpuMonitor

GIB = 1 << 30
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not GpuMonitor().gpus(), reason="NVML lists no GPU"),
]


@pytest.mark.parametrize("start", [(), ("--no-warm",)], ids=["warm", "cold"])
def test_what_exceeds_the_target_is_out_of_memory_and_the_next_rung_runs(
    start, kiss3d, picture, tmp_path
):
    attempts = [
        {"device": "cuda", "params": {"gib": 5.5}},
        {"device": "cuda", "params": {"gib": 4.0}},
    ]
    profile = {
        "profile": "none",
        "nodes": {
            "source": {"stage": "fake.source"},
            "cuda": {"stage": "fake.cuda", "attempts": attempts},
            "sink": {"stage": "fake.sink"},
        },
    }
    config, out = tmp_path / "cuda.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(profile))
    options = ("--config", config, "--output", out, "--target-vram", 6, *start)
    done = kiss3d("run", picture, *options)
    assert done.returncode == 0, done.stderr
    first, second = json.loads((out / "run.json").read_text())["nodes"]["cuda"]["attempts"]
    assert first["outcome"] == "out_of_memory"
    assert second["outcome"] == "done"
    assert 4 * GIB <= second["vram"]["peak"] <= 6 * GIB
