"""The profile that needs nothing: a picture of our own becomes a closed, coloured mesh."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from devtools.fakes.tools import ROOT, cli_environment, leftovers
from stages.contract.artifacts import MESH
from stages.contract.user_files import read_any

NODES = ("preprocess", "multiview", "reference", "reconstruct", "isomer")


def small_and(*values: str) -> list[str]:
    """Options: few cells and texels, and these values."""
    few = (
        "multiview.grid=96",
        "reconstruct.resolution=48",
        "isomer.raster_size=256",
        "isomer.render_size=256",
        "isomer.target_faces=3000",
    )
    return [word for value in (*few, *values) for word in ("--set", value)]


AS_IT_IS, REFINED = small_and("isomer.refine_above=90"), small_and("isomer.stage2_steps=1")
"""The robot's body agrees with its views, and is not refined. As coarse as here it would be, with
torch, whose import takes half as long as all else."""
ONE_AFTER_THE_OTHER = """
import json, sys
from orchestrator.cli.commands import run_command
for order in json.loads(sys.argv[1]):
    try:
        run_command(order)
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def small_robot(tmp_path_factory) -> Path:
    """The example at a third of its size: the same way through the stages in less time."""
    path = tmp_path_factory.mktemp("in") / "robot.png"
    with Image.open(ROOT / "examples" / "robot.png") as image:
        image.resize((256, 256)).save(path)
    return path


@pytest.fixture(scope="module")
def run_sketch(kiss3d_in, tmp_path_factory) -> Callable[..., Path]:
    """Runs in one folder of outputs; each returns its run directory."""
    folder = tmp_path_factory.mktemp("runs")

    def call(*words: object) -> Path:
        done = kiss3d_in(folder, *words)
        assert done.returncode == 0, done.stderr
        return folder / Path(done.stdout.strip()).parents[1]

    return call


def test_a_picture_becomes_a_closed_coloured_mesh_that_faces_forward(kiss3d, small_robot, tmp_path):
    out = tmp_path / "out"
    done = kiss3d("run", small_robot, "--profile", "sketch", "--output", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "result" / "mesh.glb")
    result = out / "result"
    mesh = read_any(MESH, result / "mesh.glb")
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert shape.is_watertight
    assert shape.is_winding_consistent
    assert shape.volume > 0
    assert 10_000 < len(mesh.faces) <= 30_000
    # The robot's face is a dark screen in front and a pale box behind.
    height = shape.bounds[0, 1] + 0.7 * np.ptp(shape.bounds[:, 1])
    head = np.abs(mesh.vertices - [0.0, height, 0.0]) < [0.15, 0.12, 9.0]
    at_head = head.all(axis=1)
    dark = mesh.colors.mean(axis=1) < 80  # the screen has 37, the box 130
    assert dark[at_head & (mesh.vertices[:, 2] > 0)].mean() > 0.5  # what is not dark are eyes
    assert dark[at_head & (mesh.vertices[:, 2] < 0)].mean() < 0.1  # none
    for name in ("mesh.glb", "mesh.obj"):
        shown = trimesh.load(result / name, force="mesh")
        assert shown.visual.kind == "texture"
        assert len(shown.faces) == len(mesh.faces)
    full = trimesh.load(result / "mesh_full.ply")
    assert full.visual.kind == "vertex"
    assert full.is_watertight
    assert len(full.faces) > len(mesh.faces)
    for name in ("preview.png", "bundle.png"):
        with Image.open(out / "result" / name) as picture:
            assert picture.width >= 1024
    for name, image in (("preprocess", "image"), ("multiview", "views"), ("isomer", "renders")):
        assert (out / name / f"{image}.png").is_file()
    assert "cut out (alpha)" in (out / "preprocess" / "attempt-1.log").read_text()
    assert leftovers(out) == []


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(AS_IT_IS, id="as it is"),
        pytest.param(REFINED, id="refined", marks=pytest.mark.slow),
    ],
)
def small(request) -> list[str]:
    return request.param


@pytest.fixture(scope="module")
def small_run(run_sketch, small_robot, small) -> Path:
    """A run with these options, which further ones may reuse."""
    return run_sketch("run", small_robot, "--profile", "sketch", *small)


def test_warm_and_cold_processes_give_the_same_bytes(
    kiss3d, small_robot, small, small_run, tmp_path
):
    cold = tmp_path / "cold"
    words = ("--profile", "sketch", *small, "--no-warm", "--output", cold)
    done = kiss3d("run", small_robot, *words)
    assert done.returncode == 0, done.stderr
    files = [
        path.relative_to(small_run)
        for node in NODES
        for path in (small_run / node).iterdir()
        if path.suffix != ".log"
    ]
    assert len(files) >= 14
    for file in files:
        assert (small_run / file).read_bytes() == (cold / file).read_bytes(), file


def test_a_process_that_computes_all_nodes_inline_gives_the_same_bytes(small_run, tmp_path):
    orders = [
        ["stage", node, "--run", str(small_run), "--inline", "--output", str(tmp_path / node)]
        for node in NODES
    ]
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps(orders)],
        cwd=tmp_path,
        env=cli_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for node in NODES:
        paths = list((tmp_path / node).glob("*.npy"))
        assert paths, node
        for path in paths:
            assert path.read_bytes() == (small_run / node / path.name).read_bytes(), path


def test_another_seed_is_the_same_sketch(kiss3d, run_sketch, small_robot, small, small_run):
    words = ("run", small_robot, "--profile", "sketch", *small)
    run = run_sketch(*words, "--seed", 2)
    nodes = json.loads((run / "run.json").read_text())["nodes"]
    assert all(nodes[name]["cached_from"] for name in NODES), "taken over, not computed again"
    again = kiss3d(*words, "--seed", 3, "--output", run)
    assert again.returncode == 0, again.stderr
    assert "--seed has no effect" in again.stderr
    assert "replaced" not in again.stderr


def test_what_is_computed_beside_another_is_what_it_is_alone_and_a_bad_one_fails_alone(
    kiss3d, small_robot, small, small_run, tmp_path
):
    """Two at a time, which share the threads: to the bit the run that had all for itself."""
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.png").write_bytes(small_robot.read_bytes())
    (folder / "bad.png").write_bytes(b"no picture")
    words = ("--profile", "sketch", *small, "--set", "runtime.cpu_slots=2", "--output", out)
    done = kiss3d("batch", folder, *words)
    assert done.returncode == 1
    assert "2 of 3 good" in done.stderr
    alone = (small_run / "result" / "mesh.glb").read_bytes()
    made = [(out / name / "result" / "mesh.glb").read_bytes() for name in "ab"]
    assert made == [alone] * 2


def test_a_stage_runs_by_itself_on_an_ordinary_picture(kiss3d, small_robot, tmp_path):
    done = kiss3d(
        "stage", "preprocess", "--input", f"input_image={small_robot}", "--output", tmp_path / "o"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o" / "image.png").is_file()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"these are words", "it is a text file"),
        (b"\x01\x02 these are none", "preprocess failed (bad_input)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "preprocess failed (bad_input)"),
    ],
    ids=["text", "no text either", "broken png"],
)
def test_what_is_no_picture_ends_with_exit_code_two(content, says, kiss3d, tmp_path):
    (tmp_path / "odd.png").write_bytes(content)
    done = kiss3d("run", "odd.png", "--profile", "sketch", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
