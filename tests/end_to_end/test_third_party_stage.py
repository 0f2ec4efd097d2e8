"""The example of a stage of one's own works as its README says."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

from devtools.fakes.tools import ROOT

EXAMPLE = ROOT / "examples" / "third_party_stage"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example, built and unpacked like `pip install` does, without any network."""
    site = tmp_path / "site"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "--target",
            site,
            EXAMPLE,
        ],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ["PYTHONPATH"]]))
    return site


def test_the_line_of_its_readme_finds_all_that_it_needs():
    lines = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.lstrip().startswith(".venv/bin/python -m pip install")]
    _, *words = shlex.split(line, comments=True)
    offline = ["--dry-run", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, *words, *offline], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_is_listed_described_planned_and_run(installed, kiss3d, tmp_path):
    described = kiss3d("stages", "describe", "tint")
    assert described.returncode == 0, described.stderr
    assert "strength" in described.stdout
    assert "\ndepends on the seed\n" in described.stdout, "it does not say otherwise"
    config = EXAMPLE / "tinted.yaml"
    out = tmp_path / "out"
    image = ROOT / "examples" / "robot.png"
    done = kiss3d("run", image, "--config", config, "--until", "tint", "--output", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nodes"]["tint"]["state"] == "done"
    import numpy as np

    before = np.load(out / "preprocess" / "image.npy").astype(float)
    after = np.load(out / "tint" / "tinted.npy").astype(float)
    assert (after[0, 0] == 255).all(), "the background stays white"
    assert after[..., 0].mean() < before[..., 0].mean(), "red is held back"
    planned = json.loads(kiss3d("plan", image, "--config", config, "--json").stdout)
    assert "tint" in [row["node"] for row in planned["nodes"]]
