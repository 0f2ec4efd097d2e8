"""On a real card: memory comes back however a process ends, and the manifest proves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from orchestrator.system.gpu import GpuMonitor

GIB = 1 << 30
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not GpuMonitor().gpus(), reason="NVML lists no GPU"),
]


@pytest.fixture
def cuda_config(tmp_path: Path) -> Callable[..., Path]:
    def make(attempts: list[dict] | None = None, **params) -> Path:
        profile = {
            "profile": "none",
            "nodes": {
                "source": {"stage": "fake.source"},
                "cuda": {
                    "stage": "fake.cuda",
                    "params": {"gib": 8.0, **params},
                    "attempts": attempts or [{"device": "cuda"}],
                },
                "sink": {"stage": "fake.sink"},
            },
        }
        path = tmp_path / "cuda.yaml"
        path.write_text(yaml.safe_dump(profile))
        return path

    return make


def rows(out: Path) -> list[dict]:
    return json.loads((out / "run.json").read_text())["nodes"]["cuda"]["attempts"]


@pytest.mark.parametrize("start", [(), ("--no-warm",)], ids=["warm", "cold"])
def test_memory_is_released_after_a_good_end(start, kiss3d, picture, cuda_config, tmp_path):
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", cuda_config(), "--output", out, *start)
    assert done.returncode == 0, done.stderr
    (row,) = rows(out)
    assert row["warm"] is (start == ()), row["cold_reason"]
    assert row["vram"]["verdict"] == "released"
    assert row["vram"]["peak"] >= 8 * GIB
    assert row["vram"]["after"] <= row["vram"]["before"] + (64 << 20)


@pytest.mark.parametrize("mode", ["segfault", "killed", "illegal_access", "oom"])
def test_memory_is_released_after_a_bad_end_and_the_next_try_works(
    mode, kiss3d, picture, cuda_config, tmp_path
):
    out = tmp_path / "out"
    config = cuda_config(
        [{"device": "cuda"}, {"device": "cuda", "params": {"gib": 1.0}}],
        mode=mode,
        flag=str(tmp_path / "flag"),
    )
    done = kiss3d("run", picture, "--config", config, "--output", out)
    assert done.returncode == 0, done.stderr
    bad, good = rows(out)
    expected = {"illegal_access": "gpu_fault", "oom": "out_of_memory"}.get(mode, "crashed")
    assert bad["outcome"] == expected
    assert bad["vram"]["verdict"] == "released"
    assert good["outcome"] == "done"
    assert good["vram"]["verdict"] == "released"
    assert bad["pid"] != good["pid"]


def test_the_device_option_hides_the_card(kiss3d, picture, cuda_config, tmp_path):
    out = tmp_path / "out"
    config = cuda_config()
    done = kiss3d("run", picture, "--config", config, "--output", out, "--device", "cpu")
    assert done.returncode == 2
    assert "--device cpu" in done.stderr
    assert not out.exists()
