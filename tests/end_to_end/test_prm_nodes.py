"""The LRM's two nodes in a whole run, each in a process of its own, with tiny random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import trimesh
import yaml
from PIL import Image

from devtools.fakes.tools import ROOT, leftovers
from devtools.tiny.prm import build_prm
from stages.contract.artifacts import MESH
from stages.contract.user_files import read_any
from stages.weights.catalogue import FOLDER_VARIABLE

PARAMS = {"resolution": 32, "chunk_points": 16384}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Profile sketch with the model's nodes in the hull's place, and fewer steps behind them."""
    nodes = {
        "reference": {"stage": "prm.reference", "params": PARAMS},
        "reconstruct": {"stage": "prm.reconstruct", "params": PARAMS},
        "isomer": {"params": {"stage2_steps": 2, "target_faces": 5000}},
    }
    path = tmp_path / "prm.yaml"
    path.write_text(yaml.safe_dump({"profile": "sketch", "nodes": nodes}))
    return path


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    path = tmp_path / "robot.png"
    with Image.open(ROOT / "examples" / "robot.png") as image:
        image.resize((256, 256)).save(path)
    return path


@pytest.mark.slow
def test_a_run_with_the_models_nodes_ends_in_a_mesh(
    kiss3d, graph: Path, picture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_prm(tmp_path / "models")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    out = tmp_path / "out"
    done = kiss3d("run", picture_file, "--config", graph, "--output", out)
    assert done.returncode == 0, done.stderr
    mesh = read_any(MESH, out / "result" / "mesh.glb")
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
    assert (out / "reference" / "reference_bundle.npy").is_file()
    assert (out / "reconstruct" / "coarse_mesh.colors.npy").is_file()
    assert leftovers(out) == []
