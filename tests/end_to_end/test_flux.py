"""flux as a node of a graph: its process, its artifact, and its ladder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from devtools.fakes.tools import ROOT
from devtools.tiny import flux as tiny

pytestmark = pytest.mark.slow

GRAPH = {
    "profile": "sketch",
    "nodes": {
        "encode": {"stage": "fake.encode"},
        "flux": {
            "stage": "flux",
            "params": {"width": 128, "height": 64, "steps": 3, "storage": "file"},
            "attempts": [
                {"params": {"placement": "streamed"}, "degraded": "slower"},
            ],
        },
    },
}


def test_a_run_denoises_the_reference_bundle_in_a_process_of_its_own(
    kiss3d, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.build_all(tmp_path / "models")
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "models"))
    (tmp_path / "flux.yaml").write_text(yaml.safe_dump(GRAPH))
    picture, out = ROOT / "examples" / "robot.png", tmp_path / "out"
    done = kiss3d(
        "run", picture, "--config", tmp_path / "flux.yaml", "--until", "flux", "--output", out
    )
    assert done.returncode == 0, done.stderr
    bundle = np.load(out / "flux" / "bundle.npy")
    assert (bundle.shape, bundle.dtype) == ((64, 128, 3), np.float32)
    node = json.loads((out / "run.json").read_text())["nodes"]["flux"]
    assert set(node["key_parts"]["inputs"]) == {
        "reference_bundle",
        "prompt_embeds",
        "pooled_embeds",
    }
    last = node["attempts"][-1]
    assert (node["state"], last["outcome"], last["warm"]) == ("done", "done", True)
    assert node["degraded"] == "slower"
    shown = sorted(path.name for path in (out / "flux").glob("preview-*"))
    assert shown == ["preview-step-001.png", "preview-step-002.png"], "of 3 steps"
    assert "flux on the way" in (out / "result" / "report.html").read_text()


def test_what_was_given_up_for_speed_is_in_the_record_and_on_the_screen(
    kiss3d, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bits and skipped evaluations, as measured, beside what the rung costs."""
    tiny.build_all(tmp_path / "models")
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "models"))
    (tmp_path / "flux.yaml").write_text(yaml.safe_dump(GRAPH))
    picture, out = ROOT / "examples" / "robot.png", tmp_path / "out"
    faster = ("flux.compute=int8", "flux.cache=1", "flux.steps=9", "flux.sampler=heun_pec")
    done = kiss3d(
        *("run", picture, "--config", tmp_path / "flux.yaml", "--until", "flux", "--output", out),
        *(word for one in faster for word in ("--set", one)),
    )
    assert done.returncode == 0, done.stderr
    degraded = json.loads((out / "run.json").read_text())["nodes"]["flux"]["degraded"]
    assert degraded.startswith("slower; ")
    for text in ("of 9 evaluations were finished from earlier ones", "in eight bits (int8)"):
        assert text in degraded
        assert text in " ".join(done.stderr.split())
