"""`kiss3d-orchestrate evaluate`, as a user types it."""

from __future__ import annotations

import json

import pytest
import trimesh


@pytest.fixture
def ball_file(tmp_path):
    path = tmp_path / "ball.ply"
    trimesh.creation.icosphere(3, 1.0).export(path)
    return path


def scores(kiss3d, *arguments):
    done = kiss3d("evaluate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_scaled_and_shifted_copy_scores_full_marks(kiss3d, ball_file, tmp_path):
    shape = trimesh.creation.icosphere(3, 5.0)
    shape.apply_translation((1.0, 2.0, 3.0))
    shape.export(tmp_path / "copy.obj")
    found = scores(kiss3d, "copy.obj", "--truth", ball_file)
    assert found["scores"]["chamfer_l1"] < 1e-5
    assert found["scores"]["f_score"] == 1.0
    assert found["faces"] == {"mesh": 1280, "truth": 1280}


def test_without_normalizing_place_and_size_count(kiss3d, ball_file, tmp_path):
    trimesh.creation.icosphere(3, 1.25).export(tmp_path / "larger.stl")
    options = ("larger.stl", "--truth", ball_file, "--no-normalize", "--samples", 5000)
    narrow = scores(kiss3d, *options, "--tau", 0.2)["scores"]
    assert narrow["chamfer_l1"] == pytest.approx(0.25, rel=0.01)
    assert narrow["f_score"] == 0.0
    assert scores(kiss3d, *options, "--tau", 0.3)["scores"]["f_score"] == 1.0


def test_the_table_and_the_seed(kiss3d, ball_file, tmp_path):
    trimesh.creation.box((1.0, 2.0, 1.0)).export(tmp_path / "box.glb")
    asked = ("evaluate", "box.glb", "--truth", ball_file, "--samples", 5000, "--seed")
    runs = [kiss3d(*asked, seed) for seed in (1, 1, 2)]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert runs[0].stdout == runs[1].stdout != runs[2].stdout
    for words in ("(12 faces)", "(1,280 faces)", "chamfer l1", "f score", "normal consistency"):
        assert words in runs[0].stdout


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.glb", None, "gone.glb does not exist"),
        ("notes.txt", b"hello", "notes.txt is no mesh file that can be read\n  -> {} .glb, .obj"),
        ("broken.glb", b"hello", "broken.glb is no usable mesh"),
        ("line.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "line.obj: the mesh has no area"),
    ],
)
def test_what_is_no_mesh_is_named_whichever_it_was_to_be(
    kiss3d, ball_file, tmp_path, name, content, words
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for files, takes in (((name, ball_file), "give"), ((ball_file, name), "--truth takes")):
        done = kiss3d("evaluate", files[0], "--truth", files[1])
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith(f"error: {words.format(takes)}")
        assert "Traceback" not in done.stderr


def test_without_a_truth_nothing_is_scored(kiss3d, ball_file):
    assert kiss3d("evaluate", ball_file).returncode == 2
