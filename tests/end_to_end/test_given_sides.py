"""`run front --back ... --left ...` and `run a b c --views auto`, by the sketch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from devtools.sided import pictures_of, toy
from stages.contract import Mesh
from stages.contract.artifacts import MESH
from stages.contract.user_files import read_any

pytestmark = pytest.mark.slow

QUICK = (
    "--profile", "sketch", "--set", "multiview.grid=96", "--set", "multiview.voxels=48",
    "--set", "reconstruct.resolution=48", "--set", "isomer.stage2_steps=0",
    "--set", "isomer.texture=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sides")
    found = {}
    for number, (side, picture) in enumerate(pictures_of(toy(), 256).items()):
        found[side] = folder / f"picture{number}.png"
        picture.save(found[side])
    return found


def mesh_of(out: Path) -> Mesh:
    mesh: Mesh = read_any(MESH, out / "result" / "mesh.glb")
    return mesh


def manifest(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "run.json").read_text())
    return found


def depth_over_height(mesh: Mesh) -> float:
    size = np.ptp(mesh.vertices, axis=0)
    return float(size[2] / size[1])


def test_four_named_pictures_make_a_body_of_their_shape_and_colours(kiss3d, pictures, tmp_path):
    out = tmp_path / "out"
    p = pictures
    sides = ("--back", p["back"], "--left", p["left"], "--right", p["right"])
    done = kiss3d("run", p["front"], *sides, *QUICK, "--output", out)
    assert done.returncode == 0, done.stderr
    mesh, truth = mesh_of(out), toy()
    # Measured: 3 % off.
    assert depth_over_height(mesh) == pytest.approx(depth_over_height(truth), rel=0.12)
    assert mesh.colors is not None
    colors = mesh.colors.astype(int)
    back = mesh.vertices[:, 2] < np.percentile(mesh.vertices[:, 2], 3)
    red, green, blue = colors[back].mean(axis=0)  # the pack
    assert green > red + 40
    assert green > blue + 30
    given = manifest(out)["given"]
    assert list(given) == ["input_image", "input_back", "input_left", "input_right"]
    for side in ("back", "left", "right"):
        assert (out / f"{side}.png").read_bytes() == p[side].read_bytes()
    page = (out / "result" / "report.html").read_text()
    assert "--back" in page

    again = kiss3d("resume", out)
    assert again.returncode == 0, again.stderr
    p["left"].rename(p["left"].with_suffix(".gone"))  # the run's own copy serves
    try:
        more = kiss3d("resume", out, "--set", "multiview.voxels=40")
    finally:
        p["left"].with_suffix(".gone").rename(p["left"])
    assert more.returncode == 0, more.stderr


def test_auto_tells_which_picture_it_took_for_what(kiss3d, pictures, tmp_path):
    out = tmp_path / "out"
    p = pictures
    files = (p["front"], p["right"], p["back"])
    done = kiss3d("run", *files, "--views", "auto", *QUICK, "--until", "multiview", "-o", out)
    assert done.returncode == 0, done.stderr
    (text,) = manifest(out)["nodes"]["preprocess"]["warnings"]  # type: ignore[index]
    assert "picture 2 is the right (" in text
    assert "picture 3 is the back (" in text
    assert "picture 2 is the right" in done.stderr


def test_several_files_without_views_auto_are_refused_with_the_way_on(kiss3d, pictures, tmp_path):
    out = tmp_path / "out"
    done = kiss3d("run", pictures["front"], pictures["back"], *QUICK, "--output", out)
    assert done.returncode == 2
    assert "--views auto" in done.stderr
    assert "--back" in done.stderr
    assert not out.exists()


def test_plan_knows_the_sides(kiss3d, pictures, tmp_path):
    words = ("plan", pictures["front"], "--back", pictures["back"], *QUICK, "--json")
    done = kiss3d(*words, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    missing = kiss3d("plan", pictures["front"], "--back", tmp_path / "none.png", *QUICK)
    assert missing.returncode == 2
    assert "none.png" in missing.stderr


def test_a_broken_picture_of_a_side_is_named(kiss3d, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures["back"].read_bytes()[:400])
    out = tmp_path / "out"
    done = kiss3d("run", pictures["front"], "--left", broken, *QUICK, "--output", out)
    assert done.returncode == 2
    assert "the picture of the left" in done.stderr
