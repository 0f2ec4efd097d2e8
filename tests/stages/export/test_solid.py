"""Meshes made fit for printing, judged by trimesh and by manifold3d."""

from __future__ import annotations

import manifold3d
import numpy as np
import pytest
import trimesh

from stages.export.model import Model
from stages.export.solid import NotClosedError, closed, defects


def model_of(shape: trimesh.Trimesh) -> Model:
    return Model(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int32))


def solid_of(model: Model) -> tuple[trimesh.Trimesh, list[str]]:
    """What `closed` makes of it, as a reader of STL files sees that. Fails unless it is a solid."""
    made, told = closed(model)
    corners = made.vertices.astype(np.float32)[made.faces].reshape(-1, 3)
    joined, numbers = np.unique(corners, axis=0, return_inverse=True)
    faces = numbers.reshape(-1, 3)
    shape = trimesh.Trimesh(joined, faces, process=False)
    assert shape.is_watertight
    assert shape.is_winding_consistent
    judged = manifold3d.Manifold(manifold3d.Mesh(joined, faces.astype(np.uint32)))
    assert judged.status() == manifold3d.Error.NoError
    assert shape.volume > 0
    return shape, told


def box(*shift: float) -> trimesh.Trimesh:
    shape = trimesh.creation.box((1, 1, 1))
    shape.apply_translation(shift or (0, 0, 0))
    return shape


def test_what_is_closed_stays_as_it_is():
    ball = trimesh.creation.icosphere(3, 1.0)
    shape, told = solid_of(model_of(ball))
    assert told == []
    assert len(shape.faces) == len(ball.faces)
    assert shape.volume == pytest.approx(ball.volume, rel=1e-5)


def test_a_hole_is_closed_with_a_flat_lid():
    shape = box()
    shape.update_faces(shape.face_normals[:, 1] < 0.5)
    assert not shape.is_watertight
    made, told = solid_of(model_of(shape))
    assert made.volume == pytest.approx(1.0)
    assert told == ["1 hole was closed"]


def test_a_bent_hole_is_closed_within_its_outline():
    """The bottom of an L: a lid from the middle of its outline would lie outside of it."""
    outline = np.array([(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)], float)
    low = np.column_stack([outline, np.zeros(6)])
    points = np.concatenate([low, low + np.array((0, 0, 1))])
    here, there = np.arange(6), (np.arange(6) + 1) % 6
    sides = np.concatenate(
        [np.stack([here, there, there + 6], axis=1), np.stack([here, there + 6, here + 6], axis=1)]
    )
    made, told = solid_of(Model(points, sides.astype(np.int32)))
    assert made.volume == pytest.approx(5.0)
    assert made.area == pytest.approx(2 * 5.0 + 12.0)
    assert told == ["2 holes were closed"]


def test_a_mesh_that_is_inside_out_is_turned():
    shape = trimesh.creation.torus(1.0, 0.3)
    shape.invert()
    made, told = solid_of(model_of(shape))
    assert made.volume == pytest.approx(-shape.volume, rel=1e-5)
    assert told == ["it was inside out, and was turned"]


def test_faces_that_disagree_are_turned_to_what_most_say():
    shape = trimesh.creation.icosphere(3, 1.0)
    faces = shape.faces.copy()
    chosen = np.random.default_rng(3).random(len(faces)) < 0.3
    faces[chosen] = faces[chosen][:, ::-1]
    made, _ = solid_of(Model(shape.vertices, faces.astype(np.int32)))
    assert made.volume == pytest.approx(shape.volume, rel=1e-5)


@pytest.mark.parametrize("shift", [(1, 1, 0), (1, 1, 1)], ids=["edge", "corner"])
def test_solids_that_only_touch_come_apart(shift):
    both = trimesh.util.concatenate([box(), box(*shift)])
    both.merge_vertices()
    made, _ = solid_of(model_of(both))
    assert made.volume == pytest.approx(2.0, rel=1e-3)


def test_repeated_and_folded_faces_go():
    shape = box()
    extra = np.concatenate([shape.faces[:2], shape.faces[5:6], [[0, 0, 1]]])
    fold = np.array([[0, 3, 5], [5, 3, 0]])
    faces = np.concatenate([shape.faces, extra, fold]).astype(np.int32)
    made, _ = solid_of(Model(shape.vertices, faces))
    assert made.volume == pytest.approx(1.0)
    assert len(made.faces) == 12


def test_flat_parts_are_left_out_and_told_of():
    leaf = trimesh.Trimesh([(3, 0, 0), (4, 0, 0), (4, 1, 0), (3, 1, 0)], [(0, 1, 2), (0, 2, 3)])
    both = trimesh.util.concatenate([box(), leaf])
    made, told = solid_of(model_of(both))
    assert made.volume == pytest.approx(1.0)
    assert "1 flat part was left out" in told


def test_colours_and_coordinates_follow_their_faces():
    shape = box()
    shape.update_faces(shape.face_normals[:, 1] < 0.5)
    uv = np.random.default_rng(1).random((len(shape.faces), 3, 2)).astype(np.float32)
    colors = np.arange(3 * len(shape.vertices)).reshape(-1, 3).astype(np.uint8)
    model = Model(
        np.asarray(shape.vertices), np.asarray(shape.faces, np.int32), uv=uv, colors=colors
    )
    made, _ = closed(model)
    assert made.uv is not None
    assert made.colors is not None
    assert made.uv.shape == (len(made.faces), 3, 2)
    before = {
        (*corner, *color): True
        for corner, color in zip(model.vertices.tolist(), colors.tolist(), strict=True)
    }
    after = zip(made.vertices.tolist(), made.colors.tolist(), strict=True)
    assert all((*corner, *color) in before for corner, color in after)
    where = {tuple(map(tuple, model.vertices[face])): uv[k] for k, face in enumerate(model.faces)}
    kept = [tuple(map(tuple, made.vertices[face])) for face in made.faces]
    same = [np.array_equal(made.uv[k], where[key]) for k, key in enumerate(kept) if key in where]
    assert len(same) == len(model.faces)
    assert all(same)


@pytest.mark.parametrize(
    ("faces", "why"),
    [
        ([(0, 1, 2)], "flat"),
        ([(0, 0, 1)], "no faces"),
    ],
)
def test_what_encloses_nothing_is_refused(faces, why):
    points = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0)], float)
    with pytest.raises(NotClosedError, match=why):
        closed(Model(points, np.array(faces, np.int32)))


def test_a_moebius_strip_is_refused():
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    across = np.stack(
        [
            np.cos(turns) * np.cos(turns / 2),
            np.sin(turns) * np.cos(turns / 2),
            np.sin(turns / 2),
        ],
        axis=1,
    )
    middle = np.stack([np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    points = np.concatenate([middle + 0.3 * across, middle - 0.3 * across])
    here = np.arange(40)
    there = (here + 1) % 40
    left, right = there.copy(), there + 40
    left[-1], right[-1] = 40, 0  # the last joins the first turned over
    faces = np.concatenate(
        [np.stack([here, here + 40, left], axis=1), np.stack([here + 40, right, left], axis=1)]
    )
    with pytest.raises(NotClosedError, match="one side"):
        closed(Model(points, faces.astype(np.int32)))


def test_a_wall_inside_that_three_faces_share_is_refused():
    shape = box()
    corners = [
        int(np.flatnonzero((np.asarray(shape.vertices) == place).all(axis=1))[0])
        for place in ((-0.5, -0.5, -0.5), (-0.5, 0.5, -0.5), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5))
    ]
    a, b, c, d = corners
    faces = np.concatenate([shape.faces, [(a, b, c), (a, c, d)]]).astype(np.int32)
    model = Model(np.asarray(shape.vertices), faces)
    assert defects(model.vertices, model.faces).crowded
    with pytest.raises(NotClosedError, match="more than two faces"):
        closed(model)
