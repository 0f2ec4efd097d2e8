"""How a mesh agrees with its pictures: better meshes score better, without a true one."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devtools.sided import pictures_of, toy
from devtools.solids import tiles
from orchestrator.processes.environment import child_environment
from stages.contract import Mesh, artifacts, codec
from stages.contract.stage import ArtifactSpec
from stages.evaluation.agreement import agreement
from stages.geometry.bundle import join
from stages.geometry.camera_rig import RADIUS

Pictures = dict[str, tuple[np.ndarray, np.ndarray]]


def flat(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.asarray(picture).astype(np.float32)
    share = pixels[..., 3:] / 255.0
    on_white = pixels[..., :3] * share + 255.0 * (1.0 - share)
    return np.rint(on_white).astype(np.uint8), np.asarray(picture)[..., 3]


@functools.cache
def pictures() -> Pictures:
    return {side: flat(picture) for side, picture in pictures_of(toy(), 256).items()}


@functools.cache
def normal_tiles() -> np.ndarray:
    return tiles(toy(), 256)[0]


def moved(mesh: Mesh, change: np.ndarray) -> Mesh:
    return replace(mesh, vertices=(mesh.vertices * change).astype(np.float32))


def test_the_object_itself_agrees_with_its_pictures() -> None:
    """Measured: 0.99, 0.98 and 0.99."""
    found = agreement(toy(), pictures(), normal_tiles(), RADIUS)
    assert found.outlines > 0.95
    assert found.colours > 0.93
    assert found.normals is not None
    assert found.normals > 0.93
    assert found.score == pytest.approx(np.mean([found.outlines, found.colours, found.normals]))
    assert list(found.sides) == ["front", "left", "back", "right"]


def test_scale_and_place_in_the_picture_do_not_count() -> None:
    image, cover = pictures()["front"]
    small = [np.asarray(Image.fromarray(a).resize((128, 128))) for a in (image, cover)]
    wide = np.full((256, 256, 3), 255, np.uint8)
    covered = np.zeros((256, 256), np.uint8)
    wide[20:148, 100:228], covered[20:148, 100:228] = small
    same = agreement(toy(), {"front": (image, cover)}, None, RADIUS)
    other = agreement(toy(), {"front": (wide, covered)}, None, RADIUS)
    assert other.score == pytest.approx(same.score, abs=0.03)


@pytest.mark.parametrize("stretch", [(1.3, 1.0, 1.0), (0.7, 1.0, 1.0)])
def test_another_shape_costs_outlines(stretch: tuple[float, float, float]) -> None:
    true = agreement(toy(), pictures(), None, RADIUS)
    other = agreement(moved(toy(), np.array(stretch)), pictures(), None, RADIUS)
    assert other.outlines < true.outlines - 0.06
    assert other.score < true.score


def test_a_wrong_depth_costs_where_a_side_is_given_and_nothing_where_none_is() -> None:
    flat_toy = moved(toy(), np.array([1.0, 1.0, 0.5]))
    front = {"front": pictures()["front"]}
    assert agreement(flat_toy, front, None, RADIUS).outlines > 0.93
    assert agreement(flat_toy, pictures(), None, RADIUS).sides["left"][0] < 0.85


def test_other_colours_cost_colours_alone() -> None:
    mesh = toy()
    assert mesh.colors is not None
    other = replace(mesh, colors=np.ascontiguousarray(mesh.colors[:, ::-1]))
    true, found = (agreement(m, pictures(), None, RADIUS) for m in (mesh, other))
    assert found.outlines == pytest.approx(true.outlines)
    assert found.colours < 0.5


def test_other_normals_cost_normals() -> None:
    mirrored = normal_tiles()[:, :, ::-1]
    found = agreement(toy(), pictures(), mirrored, RADIUS)
    assert found.normals is not None
    assert found.normals < 0.75


def save(folder: Path, spec: ArtifactSpec, value: object) -> list[str]:
    names = []
    for name, payload in codec.payloads(spec, value):
        (folder / name).write_bytes(codec.payload_bytes(payload))
        names.append(str(folder / name))
    return names


def asked(job: object) -> tuple[dict[str, object], int]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stages.evaluation.agreement", json.dumps(job)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout), done.returncode


def test_a_process_answers_for_a_runs_files(tmp_path: Path) -> None:
    image, cover = pictures()["front"]
    given = np.stack([np.dstack(pictures()[side]) for side in ("back", "left", "right")])
    rgb = np.stack([p[0] for p in pictures().values()]) / 255.0
    bundle = join(rgb, normal_tiles()).astype(np.float32)
    reference = replace(artifacts.BUNDLE, name="reference_bundle")
    job = {
        "mesh": save(tmp_path, artifacts.MESH, toy()),
        "image": save(tmp_path, artifacts.IMAGE, image)[0],
        "alpha": save(tmp_path, artifacts.ALPHA, cover[..., None])[0],
        "given_views": save(tmp_path, artifacts.GIVEN_VIEWS, given)[0],
        "bundle": save(tmp_path, reference, bundle)[0],
        "radius": RADIUS,
    }
    answer, code = asked(job)
    assert code == 0
    assert set(answer["sides"]) == {"front", "back", "left", "right"}  # type: ignore[call-overload]
    assert answer["score"] > 0.94  # type: ignore[operator]
    words, code = asked({key: job[key] for key in ("mesh", "bundle", "radius")})
    assert code == 0
    assert words["score"] > 0.94  # type: ignore[operator]
    (tmp_path / "image.npy").write_bytes(b"nothing")
    answer, code = asked(job)
    assert code == 2
    assert "cannot be compared" in str(answer["error"])
