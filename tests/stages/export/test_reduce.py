"""Fewer faces with the same look."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from devtools.painted import colored, painted_ball, plain
from stages.export.model import Model, sampled
from stages.export.read import texels_of
from stages.export.reduce import reduced
from stages.export.solid import closed


@pytest.fixture(scope="module")
def fine() -> Model:
    return painted_ball(5)


def test_the_new_texture_shows_the_old_colours_where_they_were(fine):
    made, told = reduced(fine, 800, threads=2)
    assert told == []
    assert len(made.faces) <= 800
    assert made.uv is not None
    weights = np.random.default_rng(0).dirichlet((1, 1, 1), len(made.faces))
    height = np.einsum("fk,fk->f", weights, made.vertices[made.faces][:, :, 1])
    uv = np.einsum("fk,fkc->fc", weights, made.uv)
    seen = sampled(texels_of(made.color_png), uv)
    # Measured: no face of those is wrong. One turned over would make half of them wrong.
    clear = np.abs(height) > 0.08
    right = (seen[:, 0] > seen[:, 2]) == (height > 0)
    assert right[clear].mean() > 0.97


def test_the_normal_map_gives_the_roundness_back(fine):
    made, _ = reduced(fine, 300, threads=2)
    assert made.normal_png
    assert made.tangents is not None
    assert made.tangents.shape == (len(made.faces), 3, 4)
    middle = np.full((len(made.faces), 3), 1.0 / 3.0)
    uv = np.einsum("fk,fkc->fc", middle, made.uv)
    local = sampled(texels_of(made.normal_png), uv) / 127.5 - 1.0
    normal = np.einsum("fk,fkc->fc", middle, made.normals)
    tangent = np.einsum("fk,fkc->fc", middle, made.tangents[..., :3])
    normal, tangent = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (normal, tangent))
    seen = local[:, :1] * tangent + local[:, 1:2] * np.cross(normal, tangent)
    seen += local[:, 2:] * normal
    truth = made.vertices[made.faces].mean(axis=1)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    agree = np.einsum("fc,fc->f", seen / np.linalg.norm(seen, axis=1, keepdims=True), truth)
    assert np.degrees(np.arccos(np.clip(agree, -1, 1))).mean() < 3.0  # measured: below 1


def test_colours_at_vertices_are_kept(fine):
    model = colored(fine)
    made, _ = reduced(model, 800, threads=2)
    assert made.uv is None
    assert made.colors is not None
    wanted = (made.vertices + 1.0) * 127.0
    assert np.abs(made.colors - wanted).mean() < 4.0  # measured: 1


def test_without_colours_there_are_none(fine):
    made, _ = reduced(plain(fine), 800, threads=2)
    assert made.colors is None
    assert made.uv is None
    shape = trimesh.Trimesh(made.vertices, made.faces, process=False)
    assert shape.is_watertight
    assert shape.volume == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.02)


def test_size_and_place_stay_whatever_the_unit(fine):
    moved = Model(fine.vertices * 1000.0 + (5000, 0, -300), fine.faces, uv=fine.uv)
    made, _ = reduced(plain(moved), 800, threads=2)
    middle = (made.vertices.min(axis=0) + made.vertices.max(axis=0)) / 2.0
    assert middle == pytest.approx([5000, 0, -300], abs=20)
    assert made.size == pytest.approx(moved.size, rel=0.02)


def test_a_mesh_of_fewer_faces_is_left_alone(fine):
    made, told = reduced(fine, len(fine.faces), threads=2)
    assert made is fine
    assert told == []


def test_both_sides_of_a_thin_plate_keep_their_colours():
    """Red in front and blue behind, a hundredth apart."""
    plate = trimesh.creation.box((1.0, 1.0, 0.01))
    for _ in range(5):
        plate = plate.subdivide()
    vertices = np.asarray(plate.vertices)
    front = vertices[:, 2] > 0
    colors = np.where(front[:, None], (220, 30, 30), (30, 30, 220)).astype(np.uint8)
    made, _ = reduced(Model(vertices, np.asarray(plate.faces, np.int32), colors=colors), 60, 2)
    inner = np.abs(made.vertices[:, :2]).max(axis=1) < 0.45
    red = made.colors[:, 0] > made.colors[:, 2]
    assert (red == (made.vertices[:, 2] > 0))[inner].all()


def test_what_was_reduced_can_be_closed(fine):
    made, _ = reduced(fine, 500, threads=2)
    solid, told = closed(made)
    assert told == []
    assert solid.uv is not None
