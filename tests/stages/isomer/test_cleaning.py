"""Smoothing and subdivision: MeshLab's results, the face limit, open and awkward meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from stages.geometry.numpy_edges import compact, find_edges
from stages.isomer.cleaning import clean, laplacian_smooth, subdivide
from stages.isomer.repair import Repair, repair

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "meshlab_clean.npz"

TETRAHEDRON = (
    np.array([(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)], np.float64),
    np.array([(0, 2, 1), (0, 3, 2), (0, 1, 3), (1, 2, 3)], np.int32),
)


def face_set(faces: np.ndarray) -> set[tuple[int, ...]]:
    """Faces as cycles that start at their lowest vertex: winding counts, the start does not."""
    return {tuple(np.roll(face, -int(np.argmin(face))).tolist()) for face in faces}


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6.0)


def test_laplacian_smoothing_equals_meshlabs() -> None:
    golden = np.load(GOLDEN)
    found = laplacian_smooth(golden["verts"].astype(np.float64), golden["faces"])
    np.testing.assert_allclose(found, golden["smooth_only_verts"], atol=1e-6)


@pytest.mark.parametrize(("name", "min_edge"), [("clean025", 0.0025), ("clean3pct", 0.03)])
def test_smoothing_and_subdivision_equal_meshlabs(name: str, min_edge: float) -> None:
    golden = np.load(GOLDEN)
    vertices, faces = clean(golden["verts"], golden["faces"], 1, 2, min_edge, None)
    expected = golden[f"{name}_verts"]
    distance, match = KDTree(expected).query(vertices)
    assert len(vertices) == len(expected) == len(set(match.tolist()))
    assert distance.max() < 1e-6
    assert face_set(match[faces]) == face_set(golden[f"{name}_faces"])


@pytest.mark.parametrize("target", [20_000, 3_001, 1_281])
def test_subdivision_comes_close_to_the_face_limit_and_never_exceeds_it(target: int) -> None:
    golden = np.load(GOLDEN)
    vertices, faces = clean(golden["verts"], golden["faces"], 0, 4, 0.0, target)
    assert target - 4 <= len(faces) <= target
    assert (find_edges(faces, len(vertices)).face_count == 2).all()


def test_a_mesh_beyond_the_limit_is_left_as_it_is() -> None:
    golden = np.load(GOLDEN)
    vertices = golden["verts"].astype(np.float64)
    found, faces = subdivide(vertices, golden["faces"], 2, 0.0, 500)
    np.testing.assert_array_equal(found, vertices)
    np.testing.assert_array_equal(faces, golden["faces"])


def test_every_pattern_of_split_sides_keeps_the_surface_closed_and_its_winding() -> None:
    golden = np.load(GOLDEN)
    vertices, faces = golden["verts"].astype(np.float64), golden["faces"].astype(np.int32)
    # Random stretching gives all sides different lengths: 0, 1, 2 and 3 long sides a face.
    vertices = vertices * (1 + 0.3 * np.random.default_rng(0).random((len(vertices), 1)))
    found, triangles = subdivide(vertices, faces, 1, 0.055, None)
    assert len(faces) < len(triangles) < 4 * len(faces)
    assert (find_edges(triangles, len(found)).face_count == 2).all()
    assert volume(found, triangles) == pytest.approx(volume(vertices, faces), rel=0.03)


def test_vertices_move_by_loops_mask_where_no_edge_is_long_enough_to_be_split() -> None:
    vertices, faces = np.asarray(TETRAHEDRON[0], np.float64), TETRAHEDRON[1]
    found, triangles = subdivide(vertices, faces, 1, 1.0, None)
    np.testing.assert_array_equal(triangles, faces)
    # Three neighbours: b = (5/8 - (3/8 - 1/8)^2) / 3 = 3/16, so P' = 7/16 P + 3/16 of each.
    others = vertices.sum(axis=0) - vertices
    np.testing.assert_allclose(found, 7 / 16 * vertices + 3 / 16 * others)
    kept, _ = subdivide(vertices, faces, 1, 1.0, None, keep_shape=True)
    np.testing.assert_array_equal(kept, vertices)


def test_an_open_border_stays_where_it_is_and_gets_midpoints() -> None:
    steps = np.arange(4.0)
    x, y = np.meshgrid(steps, steps)
    vertices = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    index = np.arange(16).reshape(4, 4)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    found, triangles = subdivide(vertices, faces.astype(np.int32), 1, 0.0, None)
    assert len(triangles) == 4 * len(faces)
    middle = found[np.isclose(found[:, 0], 1.5) & np.isclose(found[:, 1], 0.0)]
    assert len(middle) == 1
    edges = find_edges(triangles, len(found))
    border = found[edges.ends[edges.on_border]].reshape(-1, 3)
    on_line = np.isclose(border[:, :2], 0.0) | np.isclose(border[:, :2], 3.0)
    # Corners are rounded off by Loop's border rule; everything else stays on the four lines.
    assert (~on_line.any(axis=1)).sum() == 4 * 2


def test_an_edge_with_three_faces_does_not_break_cleaning() -> None:
    vertices = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, -1, 0)], np.float64)
    faces = np.array([(0, 1, 2), (0, 1, 3), (1, 0, 4)], np.int32)
    found, triangles = clean(vertices, faces, 1, 2, 0.0, None)
    assert np.isfinite(found).all()
    assert len(triangles) == 16 * len(faces)


def test_degenerate_and_repeated_faces_and_unused_vertices_are_dropped() -> None:
    vertices, faces = TETRAHEDRON
    spoiled = np.concatenate([faces, [[0, 0, 1]], faces[1:2][:, [1, 2, 0]]]).astype(np.int32)
    found, triangles = compact(np.concatenate([vertices, [[9, 9, 9]]]), spoiled)
    np.testing.assert_array_equal(found, vertices)
    assert face_set(triangles) == face_set(faces)


def two_boxes(shift: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Unit cubes, the second moved by `shift`; corners at one place are one vertex."""
    shape = trimesh.util.concatenate([trimesh.creation.box((1, 1, 1)), _moved_box(shift)])
    shape.merge_vertices()
    return np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int32)


def _moved_box(shift: tuple[float, float, float]) -> trimesh.Trimesh:
    box = trimesh.creation.box((1, 1, 1))
    box.apply_translation(shift)
    return box


FIN = (
    np.array([(0, 0, 0), (1, 0, 0), (0.5, 1, 0), (0.5, -1, 0), (0.5, 0, 0.5)], np.float64),
    np.array([(0, 1, 2), (1, 0, 3), (0, 1, 4)], np.int32),
)
"""Two large faces, and a small one that stands on the edge between them."""


@pytest.mark.parametrize("how", ["split", "remove"])
def test_two_sheets_that_touch_at_a_vertex_are_parted_before_they_are_subdivided(
    how: Repair,
) -> None:
    vertices, faces = two_boxes((1, 1, 1))
    assert len(vertices) == 15
    found, triangles = repair(vertices, faces, how)
    assert len(found) == 16
    np.testing.assert_array_equal(found[:15], vertices)
    np.testing.assert_array_equal(found[triangles], vertices[faces])
    shape = trimesh.Trimesh(*clean(vertices, faces, 0, 1, 0.0, None, non_manifold=how))
    assert [part.is_watertight for part in shape.split()] == [True, True]


def test_boxes_that_share_an_edge_become_two_closed_ones_without_a_hole() -> None:
    vertices, faces = two_boxes((1, 1, 0))
    assert (find_edges(faces, len(vertices)).face_count == 4).any()
    found, triangles = repair(vertices, faces, "split")
    np.testing.assert_array_equal(found[triangles], vertices[faces])
    assert (find_edges(triangles, len(found)).face_count == 2).all()
    shape = trimesh.Trimesh(*clean(vertices, faces, 1, 2, 0.0, None))
    assert [part.is_watertight for part in shape.split()] == [True, True]


def test_remove_takes_the_smallest_faces_at_an_edge_until_two_are_left() -> None:
    found, triangles = repair(*FIN, "remove")
    np.testing.assert_array_equal(triangles, FIN[1][:2])
    np.testing.assert_array_equal(found, FIN[0])
    vertices, faces = two_boxes((1, 1, 0))
    found, triangles = repair(vertices, faces, "remove")
    assert len(triangles) == len(faces) - 2
    assert find_edges(triangles, len(found)).face_count.max() == 2


def test_a_fin_is_left_on_the_surface_that_it_stands_on() -> None:
    found, triangles = repair(*FIN, "split")
    np.testing.assert_array_equal(triangles, FIN[1])
    np.testing.assert_array_equal(found, FIN[0])


@pytest.mark.parametrize("how", ["split", "remove"])
def test_a_sound_mesh_needs_no_repair(how: Repair) -> None:
    golden = np.load(GOLDEN)
    vertices, faces = golden["verts"].astype(np.float64), golden["faces"].astype(np.int32)
    found, triangles = repair(vertices, faces, how)
    np.testing.assert_array_equal(found, vertices)
    np.testing.assert_array_equal(triangles, faces)
