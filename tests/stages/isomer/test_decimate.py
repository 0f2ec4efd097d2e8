"""Fewer faces, the same surface: what a reduction keeps."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from devtools.solids import is_closed_solid
from stages.contract import Mesh
from stages.geometry.numpy_edges import find_edges
from stages.isomer.decimate import decimate


def shape_of(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


def fine_box() -> tuple[np.ndarray, np.ndarray]:
    """A box of 12,288 faces that share their corners."""
    box = trimesh.creation.box((1.0, 1.4, 0.6))
    for _ in range(5):
        box = box.subdivide()
    return np.asarray(box.vertices), np.asarray(box.faces)


def open_sheet(steps: int = 40) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(-1.0, 1.0, steps + 1)
    x, y = np.meshgrid(t, t)
    points = np.stack([x, y, 0.1 * np.sin(4.0 * x)], axis=-1).reshape(-1, 3)
    index = np.arange(x.size).reshape(x.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return points, np.concatenate([np.stack(k, -1).reshape(-1, 3) for k in ((a, b, c), (a, c, d))])


def test_a_ball_stays_a_closed_ball() -> None:
    ball = trimesh.creation.icosphere(5)
    vertices, faces = decimate(ball.vertices, ball.faces, 3000)
    assert 2900 <= len(faces) <= 3000
    assert is_closed_solid(Mesh(vertices, faces))
    assert np.abs(np.linalg.norm(vertices, axis=1) - 1.0).max() < 0.004
    assert shape_of(vertices, faces).volume == pytest.approx(ball.volume, rel=2e-3)


def test_flat_sides_and_sharp_edges_of_a_box_are_kept() -> None:
    vertices, faces = decimate(*fine_box(), 60)
    assert len(faces) <= 60
    assert is_closed_solid(Mesh(vertices, faces))
    assert shape_of(vertices, faces).volume == pytest.approx(1.0 * 1.4 * 0.6, rel=1e-4)
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.7, 0.7) for z in (-0.3, 0.3)])
    gaps = np.linalg.norm(corners[:, None] - vertices[None], axis=2).min(axis=1)
    assert gaps.max() < 1e-4


def test_holes_stay_where_they_are() -> None:
    torus = trimesh.creation.torus(0.6, 0.2, 96, 48)
    vertices, faces = decimate(torus.vertices, torus.faces, 800)
    assert len(faces) <= 800
    assert is_closed_solid(Mesh(vertices, faces))
    assert shape_of(vertices, faces).euler_number == 0


def test_an_open_sheet_keeps_its_border() -> None:
    points, faces = open_sheet()
    vertices, faces = decimate(points, faces, 400)
    assert len(faces) <= 400
    edges = find_edges(faces, len(vertices))
    ends = vertices[edges.ends[edges.on_border]]
    length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).sum()
    whole = 4.0 + 2.0 * np.hypot(np.diff(np.linspace(-1, 1, 2000)), np.diff(
        0.1 * np.sin(4.0 * np.linspace(-1, 1, 2000)))).sum()  # fmt: skip
    assert length == pytest.approx(whole, rel=0.05)
    assert np.abs(vertices[:, :2]).max() == pytest.approx(1.0, abs=0.03)
    assert np.abs(vertices[:, 2] - 0.1 * np.sin(4.0 * vertices[:, 0])).max() < 0.01


def test_a_crumpled_surface_is_reduced_as_well() -> None:
    ball = trimesh.creation.icosphere(4)
    rng = np.random.default_rng(0)
    crumpled = ball.vertices + rng.normal(0.0, 0.05, ball.vertices.shape)
    vertices, faces = decimate(crumpled, ball.faces, 500)
    assert len(faces) <= 500
    assert np.isfinite(vertices).all()
    assert find_edges(faces, len(vertices)).face_count.tolist() == [2] * (len(faces) * 3 // 2)


def test_a_finely_crumpled_surface_stays_closed() -> None:
    """The package alone folds 110 pairs of faces onto each other here."""
    ball = trimesh.creation.icosphere(6)
    rng = np.random.default_rng(0)
    crumpled = ball.vertices + rng.normal(0.0, 0.02, ball.vertices.shape)
    vertices, faces = decimate(crumpled, ball.faces, 30_000)
    assert 25_000 < len(faces) <= 30_000
    assert (find_edges(faces, len(vertices)).face_count == 2).all()


def test_sheets_of_a_thin_blade_do_not_touch() -> None:
    """The package alone pinches two edges here: each has four faces, two of either sheet."""
    blade = trimesh.creation.box((2.0, 0.1, 0.008)).subdivide_to_size(0.02)
    crumpled = blade.vertices + np.random.default_rng(5).normal(0.0, 0.004, blade.vertices.shape)
    vertices, faces = decimate(crumpled, blade.faces, len(blade.faces) * 3 // 10)
    _, place = np.unique(vertices.astype(np.float32), axis=0, return_inverse=True)
    edges = find_edges(place.reshape(-1)[faces], len(vertices))
    assert (edges.face_count == 2).all(), "for a reader who joins vertices of one place"
    assert is_closed_solid(Mesh(vertices, faces))


def test_triangles_that_share_nothing_vanish_until_the_limit_holds() -> None:
    corners = np.random.default_rng(1).normal(size=(300, 3))
    _, faces = decimate(corners, np.arange(300).reshape(-1, 3), 10)
    assert 0 < len(faces) <= 10


def test_a_mesh_of_which_nothing_would_be_left_is_returned_as_it_is() -> None:
    tetrahedron = np.array([(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)], np.float64)
    sides = np.array([(0, 2, 1), (0, 3, 2), (0, 1, 3), (1, 2, 3)])
    _, found = decimate(tetrahedron, sides, 2)
    assert len(found) == 4


def test_a_mesh_below_the_limit_is_returned_as_it_is() -> None:
    ball = trimesh.creation.icosphere(2)
    vertices, faces = decimate(ball.vertices, ball.faces, len(ball.faces))
    np.testing.assert_array_equal(vertices, ball.vertices)
    np.testing.assert_array_equal(faces, ball.faces)


def test_the_result_is_the_same_every_time() -> None:
    points, faces = open_sheet()
    one, two = decimate(points, faces, 900), decimate(points, faces, 900)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
