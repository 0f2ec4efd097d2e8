"""`kiss3d-orchestrate export` and `run --format`, as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
import trimesh

from devtools.fakes.tools import ROOT
from devtools.page_runs import page_run
from devtools.painted import painted_ball, written
from orchestrator.record.run_directory import RunDirectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a mesh, to be copied."""
    path = tmp_path_factory.mktemp("runs") / "ball"
    run = page_run(path)
    file = written(painted_ball(3), "glb", tmp_path_factory.mktemp("mesh"))
    shutil.copy(file, path / "result" / "mesh.glb")
    return run.path


@pytest.fixture
def robot():
    return ROOT / "examples" / "robot.png"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "ball")


def told(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done, code, *words):
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert "\n  -> " in done.stderr, "and says what to do"
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_is_exported_into_its_result_which_clean_knows(kiss3d, run, tmp_path):
    done = told(kiss3d("export", run, "--json"))
    assert [row["path"] for row in done["files"]] == [
        str(run / "result" / name) for name in ("mesh.stl", "mesh.3mf")
    ]
    assert all(row["size"][2] == pytest.approx(100.0, rel=1e-5) for row in done["files"])
    assert RunDirectory.open(run).manifest.exports == ["mesh.3mf", "mesh.stl"]
    shape = trimesh.load(run / "result" / "mesh.stl")
    assert shape.is_watertight
    again = kiss3d("export", run, "--format", "stl", "--height", "2in")
    assert again.stdout == f"{run / 'result' / 'mesh.stl'}\n", "ours is made anew"
    assert trimesh.load(run / "result" / "mesh.stl").extents[2] == pytest.approx(50.8, rel=1e-5)
    assert kiss3d("clean", tmp_path, "--yes").returncode == 0
    assert not run.exists()


def test_a_file_of_somebody_else_is_neither_written_over_nor_cleaned(kiss3d, run, tmp_path):
    mine = run / "result" / "mesh.stl"
    mine.write_text("mine")
    refused(kiss3d("export", run), 2, "mesh.stl is there already")
    assert not (run / "result" / "mesh.3mf").exists(), "nothing half-done"
    mine.unlink()
    mine.symlink_to(tmp_path / "elsewhere")
    refused(kiss3d("export", run), 2, "is there already")
    assert not (tmp_path / "elsewhere").exists()
    assert kiss3d("clean", tmp_path, "--yes").returncode == 0
    assert mine.is_symlink()


def test_what_the_run_has_is_named_and_not_changed(kiss3d, run):
    mesh = run / "result" / "mesh.glb"
    before = mesh.read_bytes()
    assert kiss3d("export", run, "--format", "glb").stdout == f"{mesh}\n"
    refused(kiss3d("export", run, "--format", "glb", "--faces", 100), 2, "--output")
    assert mesh.read_bytes() == before
    small = told(kiss3d("export", run, "--format", "glb", "--faces", 100, "-o", "s", "--json"))
    assert small["files"][0]["faces"] <= 100


def test_a_mesh_file_is_exported_beside_nothing_of_the_same_name(kiss3d, run, tmp_path):
    shutil.copy(run / "result" / "mesh.glb", tmp_path / "my ball.glb")
    done = kiss3d("export", "my ball.glb", "--format", "obj,ply")
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()
    assert names[0] == "my_ball.obj"
    assert all((tmp_path / name).is_file() for name in names)
    refused(kiss3d("export", "my ball.glb", "--format", "ply"), 2, "is there already")
    assert kiss3d("export", "my ball.glb", "--format", "ply", "-o", "new/deep").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "fbx"), ("unknown format", "known: glb")),
        (("--height", "5parsec"), ("unknown unit", "known: mm, cm, m, in")),
        (("--height", "100"), ("no length", "100mm")),
        (("--faces", "3"), ("--faces",)),
        (("--faces", "many"), ("--faces",)),
        (("--output", "file"), ("is no folder",)),
        (("--format", "stl", "--output", "new/../taken"), ("is there already",)),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_starts(
    kiss3d, run, tmp_path, arguments, words
):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mesh.stl").write_text("")
    before = sorted(os.listdir(run / "result"))
    refused(kiss3d("export", run, *arguments), 2, *words)
    assert sorted(os.listdir(run / "result")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_limit_of_file_size_is_named_and_no_folder_left(kiss3d, run, tmp_path):
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = kiss3d("export", run, "--format", "stl", "--output", "new", preexec_fn=limited)
    refused(done, 1, "File too large", "ulimit -f unlimited")
    assert not (tmp_path / "new").exists()


def test_what_is_no_mesh_is_refused(kiss3d, tmp_path, finished):
    (tmp_path / "a.glb").write_bytes(b"no mesh")
    (tmp_path / "b.fbx").write_bytes(b"no mesh")
    refused(kiss3d("export", "a.glb"), 2, "a.glb is no usable mesh")
    refused(kiss3d("export", "b.fbx"), 2, ".glb, .obj, .ply, .stl")
    refused(kiss3d("export", "none.glb"), 2, "does not exist")
    refused(kiss3d("export", tmp_path), 2, "holds no run")
    half = shutil.copytree(finished, tmp_path / "half")
    (half / "result" / "mesh.glb").unlink()
    refused(kiss3d("export", half), 2, "has no mesh", "goes on to it")
    assert sorted(os.listdir(tmp_path)) == ["a.glb", "b.fbx", "half"]


def test_a_mesh_that_cannot_be_closed_ends_with_exit_code_1_and_no_file(kiss3d, tmp_path):
    (tmp_path / "sheet.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    done = kiss3d("export", "sheet.obj", "--format", "ply,stl", "--json")
    refused(done, 1, "cannot be made watertight", "glb, obj or ply")
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 1
    assert "watertight" in answer["error"]
    assert os.listdir(tmp_path) == ["sheet.obj"]
    assert kiss3d("export", "sheet.obj", "--format", "ply").returncode == 0


def test_a_format_without_its_package_is_refused_with_the_command_that_gets_it(kiss3d, run):
    from importlib.util import find_spec

    if find_spec("pxr"):
        pytest.skip("usd-core is installed")
    refused(kiss3d("export", run, "--format", "usdz"), 2, 'pip install "usd-core')


def test_a_profile_that_makes_no_mesh_has_nothing_to_export(kiss3d, picture, config_file):
    done = kiss3d("run", picture, "--config", config_file(), "--format", "stl")
    refused(done, 2, "makes a mesh")


@pytest.mark.slow
def test_a_sketch_and_a_batch_of_sketches_are_exported_with_the_run(kiss3d, tmp_path, robot):
    out = tmp_path / "out"
    options = ("--profile", "sketch", "--format", "stl,3mf,ply,glb")
    done = kiss3d("run", robot, *options, "-o", out)
    assert done.returncode == 0, done.stderr
    for name in ("mesh.stl", "mesh.3mf", "mesh.ply"):
        assert f"export: {out / 'result' / name}" in done.stderr
    shape = trimesh.load(out / "result" / "mesh.stl")
    assert shape.is_watertight
    assert shape.extents[2] == pytest.approx(100.0, rel=1e-5)
    (out / "result" / "mesh.stl").unlink()
    assert kiss3d("resume", out).returncode == 0
    assert (out / "result" / "mesh.stl").is_file(), "resume knows what was asked for"
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(robot, folder)
    done = kiss3d("batch", folder, *options[:2], "--format", "stl", "-o", tmp_path / "batch")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "batch" / robot.stem / "result" / "mesh.stl").is_file()
