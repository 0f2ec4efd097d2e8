"""From a mesh to a mesh: the real profiles, on tiny weights where they load any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from devtools.given_meshes import atlas, box_glb, box_mtl, box_obj, encoded
from devtools.profile_runs import (
    SIZES,
    STEPS,
    Finished,
    link_models,
    orchestrate,
    run_profile,
    sets,
)
from stages.geometry.bundle import split

WORDS = "a chest of gold"
ENHANCE = ["mesh_views", "caption", "prompt", "encode", "flux", "reconstruct", "isomer"]
REFERENCE: dict[str, dict[str, Any]] = {
    "prompt": {"enabled": False},
    "encode": {"redux": False, "lora": "kiss3dgen-lora-redux", "max_sequence_length": 512},
    "flux": {
        "strength": 0.95,
        "guidance_scale": 3.5,
        "lora": "kiss3dgen-lora-redux",
        "lora_scale": 1.0,
    },
    "isomer": {"radius": 4.15, "stage1_steps": 0},
    "mesh_views": {"radius": 4.5},
}
"""What the reference sets for 3D to 3D (docs/reference.md)."""
TILE = {"mode": "tile", "scale": 0.1, "start": 0.0, "end": 0.2}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OBJ with the files that it names, in a folder of their own."""
    folder = tmp_path_factory.mktemp("box")
    (folder / "box.obj").write_bytes(box_obj())
    (folder / "box.mtl").write_bytes(box_mtl())
    (folder / "colors.png").write_bytes(encoded(atlas()))
    return folder / "box.obj"


@pytest.fixture(scope="module")
def enhanced(tiny_models: Path, box: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("enhance")
    return run_profile(
        tiny_models,
        folder,
        "enhance",
        *sets("enhance", SIZES, STEPS),
        subject=(box, "--text", WORDS),
    )


def assert_params(run: Finished, control: dict[str, Any], **more: dict[str, Any]) -> None:
    for node, values in {**REFERENCE, **more}.items():
        if node in run.nodes:
            given = run.params(node)
            assert {key: given[key] for key in values} == values, node
    (used,) = run.params("flux")["controlnet"]
    assert control.items() <= used.items()
    assert run.manifest["seed"] == 42


def assert_done(run: Finished, nodes: list[str]) -> None:
    assert run.manifest["state"] == "done"
    assert list(run.nodes) == nodes
    assert {node["state"] for node in run.nodes.values()} == {"done"}
    pids = [pid for attempts in run.pids().values() for pid in attempts]
    assert len(set(pids)) == len(nodes), "one process a node"
    mesh: Any = trimesh.load(run.path / "result" / "mesh.glb", force="mesh", process=False)
    assert len(mesh.faces) > 0
    assert np.isfinite(mesh.vertices).all()


def test_enhance_goes_through_seven_processes_to_a_mesh(enhanced: Finished) -> None:
    assert_done(enhanced, ENHANCE)


def test_enhance_runs_with_the_references_params(enhanced: Finished) -> None:
    assert_params(enhanced, TILE)
    assert enhanced.params("mesh_views")["normal_encoding"] == "bundle"


def test_mesh_and_words_are_recorded_and_used(enhanced: Finished) -> None:
    given = enhanced.manifest["given"]
    assert list(given) == ["input_mesh", "input_text"]
    assert given["input_mesh"]["file"] == "input.zip", "with its material and its picture"
    assert (enhanced.path / "input.zip").stat().st_size == given["input_mesh"]["size"]
    assert (enhanced.path / "caption" / "caption.txt").read_text() == WORDS
    bundle = np.load(enhanced.path / "mesh_views" / "reference_bundle.npy")
    front = split(bundle)[0][0]
    # Soft light: a wall reflects 0.8 of its (220, 40, 40), in linear light.
    np.testing.assert_allclose(front[32, 32] * 255.0, (199, 35, 35), atol=3)


def test_the_same_mesh_and_words_compute_nothing_again(
    enhanced: Finished, tiny_models: Path, box: Path
) -> None:
    again = run_profile(
        tiny_models,
        enhanced.path.parents[1],
        "enhance",
        *sets("enhance", SIZES, STEPS),
        subject=(box, "--text", WORDS),
    )
    assert all(node["cached_from"] for node in again.nodes.values())


def test_words_take_the_place_of_the_model_that_describes_pictures(
    tiny_models: Path, box: Path, tmp_path: Path
) -> None:
    models = link_models(tiny_models, tmp_path / "models", but=["florence-2-large"])
    words = ("--profile", "enhance", "--device", "cpu", "--json")
    plans = [
        json.loads(orchestrate(models, tmp_path, "plan", box, *words, *text).stdout)
        for text in (("--text", WORDS), ())
    ]
    missing = [[row["name"] for row in plan["missing_weights"]] for plan in plans]
    assert missing == [[], ["florence-2-large"]]


@pytest.mark.slow
def test_without_words_the_mesh_is_described(
    enhanced: Finished, tiny_models: Path, box: Path
) -> None:
    run = run_profile(
        tiny_models,
        enhanced.path.parents[1],
        "enhance",
        *sets("enhance", SIZES, STEPS),
        *("--until", "caption"),
        subject=(box,),
    )
    assert run.nodes["mesh_views"]["cached_from"]
    caption = (run.path / "caption" / "caption.txt").read_text()
    assert caption
    assert caption != WORDS


@pytest.mark.slow
def test_retexture_keeps_the_shape_and_its_coordinates(
    tiny_models: Path, box: Path, tmp_path: Path
) -> None:
    run = run_profile(
        tiny_models,
        tmp_path,
        "retexture",
        *sets("retexture", SIZES, STEPS),
        subject=(box, "--text", WORDS),
    )
    nodes = ["mesh_views", "caption", "prompt", "encode", "flux", "retexture"]
    assert_done(run, nodes)
    tile = {"mode": "tile", "scale": 0.6, "start": 0.0, "end": 0.65}
    assert_params(run, tile, retexture={"radius": 4.5, "layout": "given"})
    mesh: Any = trimesh.load(run.path / "result" / "mesh.glb", force="mesh", process=False)
    assert len(mesh.faces) == 12
    vertices = np.unique(np.abs(mesh.vertices).round(5), axis=0)
    np.testing.assert_allclose(vertices, [[0.5, 0.5, 0.5]], atol=1e-5)  # the file's own
    uv = np.unique(np.asarray(mesh.visual.uv).round(4), axis=0)
    thirds, halves = (np.unique(uv[:, axis]) for axis in (0, 1))
    np.testing.assert_allclose(thirds, [0, 1 / 3, 2 / 3, 1], atol=1e-3)
    np.testing.assert_allclose(halves, [0, 0.5, 1], atol=1e-3)


@pytest.mark.slow
def test_original_does_3d_to_3d_as_published(tiny_models: Path, box: Path, tmp_path: Path) -> None:
    run = run_profile(
        tiny_models,
        tmp_path,
        "original",
        *sets("original", SIZES, STEPS),
        subject=(box, "--text", WORDS),
    )
    assert sorted(run.nodes) == sorted(ENHANCE)
    assert run.manifest["state"] == "done"
    quirks = {"normal_encoding": "reference", "normals": "smooth", "up": "+y", "front": "+z"}
    assert_params(
        run,
        TILE,
        mesh_views={**quirks, "radius": 4.5},
        isomer={"radius": 4.15, "axes": "reference"},
    )


def test_sketch_makes_a_mesh_anew_without_weights(
    box: Path, tmp_path: Path, kiss3d: Callable[..., Any]
) -> None:
    """From what the cameras see of it: closed, at the bundle's scale, in its colours."""
    sizes = {
        "mesh_views.size": 256,
        "reconstruct.resolution": 64,
        "isomer.raster_size": 256,
        "isomer.stage2_steps": 0,
        "isomer.target_faces": 5000,
    }
    options = [word for path, value in sizes.items() for word in ("--set", f"{path}={value}")]
    done = kiss3d("run", box, "--profile", "sketch", "--output", "out", "--json", *options)
    assert done.returncode == 0, done.stderr
    run = Finished(tmp_path / "out")
    assert list(run.nodes) == ["mesh_views", "reconstruct", "isomer"]
    assert {run.params(node)["radius"] for node in run.nodes} == {4.5}
    mesh: Any = trimesh.load(tmp_path / "out" / "result" / "mesh_full.ply", process=False)
    assert mesh.is_watertight
    # A box of 1.8 (1.89, 2.01, 1.89). Its top is a dome, as no camera sees that it is flat.
    np.testing.assert_allclose(mesh.extents, [1.8, 1.9, 1.8], atol=0.2)
    renders = np.load(run.path / "isomer" / "renders.npy")
    for side, color in enumerate([(220, 40, 40), (40, 40, 220), (40, 200, 40), (230, 220, 40)]):
        np.testing.assert_allclose(renders[side, 256, 256], (*color, 255), atol=12)


def test_a_mesh_without_colours_is_told_in_the_record(
    tmp_path: Path, kiss3d: Callable[..., Any]
) -> None:
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.stl")
    done = kiss3d(
        *("run", "ball.stl", "--profile", "sketch", "--until", "mesh_views", "--output", "out"),
        *("--set", "mesh_views.size=64"),
    )
    assert done.returncode == 0, done.stderr
    assert "no colours" in done.stderr
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["nodes"]["mesh_views"]["warnings"] == [
        "the mesh has no colours: it is taken as grey"
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.glb", b"", "is empty"),
        ("broken.glb", box_glb()[:600], "not copied or downloaded"),
        ("away.obj", box_obj("../secret.mtl"), "lies outside of its folder"),
        ("net.obj", box_obj("http://host/x.mtl"), "is an address"),
    ],
)
def test_bad_meshes_end_with_a_sentence_and_code_2(
    name: str, content: bytes, told: str, tmp_path: Path, kiss3d: Callable[..., Any]
) -> None:
    (tmp_path / name).write_bytes(content)
    done = kiss3d("run", name, "--profile", "sketch", "--output", "out")
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_one_bad_mesh_of_a_batch_fails_alone(tmp_path: Path, kiss3d: Callable[..., Any]) -> None:
    folder = tmp_path / "meshes"
    folder.mkdir()
    (folder / "good.glb").write_bytes(box_glb())
    (folder / "bad.glb").write_bytes(box_glb(extensionsRequired=["KHR_draco_mesh_compression"]))
    (folder / "away.obj").write_bytes(box_obj("../secret.mtl"))
    done = kiss3d(
        *("batch", folder, "--profile", "sketch", "--until", "mesh_views"),
        *("--set", "mesh_views.size=64", "--output", "out", "--json"),
    )
    assert done.returncode == 1, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["jobs"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "good": "done",
        "bad": "failed",
        "away": "failed",
    }
    assert "Draco" in json.dumps(rows["bad"])
    assert "outside of its folder" in json.dumps(rows["away"])
