"""From a field to a mesh: chunks, frames, colours, borders, and fields without a surface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from devtools.analytic import Analytic, ball
from devtools.solids import is_closed_solid
from devtools.tiny.prm import BLOB_CENTER, BLOB_RADIUS, TINY, prm_tensors
from stages.contract import Mesh, StageError
from stages.lrm.flexicubes.grid import vertex_count
from stages.lrm.prm import field as field_module
from stages.lrm.prm.cameras import t_to_w
from stages.lrm.prm.empty import has_surface, repaired
from stages.lrm.prm.field import GRID_SCALE, TriplaneField
from stages.lrm.prm.model import Prm
from stages.lrm.prm.params import ModelParams
from stages.lrm.prm.surface import mesh_of, read_views

R = 24


@pytest.fixture(scope="module")
def model() -> Prm:
    model = Prm(TINY)
    model.load_state_dict(prm_tensors(TINY))
    return model.requires_grad_(False)


def field_of(model: Prm, chunk_points: int, size: int = 512) -> TriplaneField:
    tiles = np.ones((4, size, size, 3), np.float32)
    for k, tile in enumerate(tiles):
        tile[size // 4 : -size // 4, size // 3 : -size // 3] = (0.2 * k, 0.5, 0.9 - 0.2 * k)
    return read_views(model, tiles, chunk_points)


def volume(mesh: Mesh) -> float:
    return float(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume)


# --- chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_points", [64, 1000, 5000])
def test_the_size_of_the_chunks_does_not_change_the_mesh(model: Prm, chunk_points: int) -> None:
    whole = mesh_of(field_of(model, 1_000_000), ModelParams(resolution=R))
    parts = mesh_of(field_of(model, chunk_points), ModelParams(resolution=R))
    assert np.array_equal(parts.faces, whole.faces)
    np.testing.assert_allclose(parts.vertices, whole.vertices, atol=1e-5)
    assert parts.colors is not None
    assert whole.colors is not None
    assert np.abs(parts.colors.astype(int) - whole.colors).max() <= 1


def test_no_more_points_than_a_chunk_are_decoded_at_once(
    model: Prm, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    sample = field_module.sample_planes

    def counted(planes: Tensor, points: Tensor) -> Tensor:
        counts.append(len(points))
        return sample(planes, points)

    monkeypatch.setattr(field_module, "sample_planes", counted)
    field = field_of(model, 512)
    mesh = mesh_of(field, ModelParams(resolution=R))
    assert max(counts) == 512
    # Weights are wanted for the cubes at the surface, about one a vertex of the mesh, not for all.
    corners = sum(counts) - vertex_count(R) - len(mesh.vertices)
    assert 0 < corners <= 8 * len(mesh.vertices) < 0.5 * 8 * R**3


# --- frames and colours ---------------------------------------------------------------------------


def test_the_tiny_models_blob_is_a_closed_solid_where_it_was_put(model: Prm) -> None:
    mesh = mesh_of(field_of(model, 4096), ModelParams(resolution=32))
    largest = max(trimesh.Trimesh(mesh.vertices, mesh.faces).split(), key=lambda part: part.volume)
    assert is_closed_solid(mesh)
    assert np.abs(largest.center_mass - t_to_w(np.array(BLOB_CENTER))).max() < 0.15
    assert np.abs(largest.extents - 2 * BLOB_RADIUS).max() < 0.4


def test_views_of_another_size_give_nearly_the_same_field(model: Prm) -> None:
    wanted = field_of(model, 4096).grid_values(R).sdf
    smaller = field_of(model, 4096, size=384).grid_values(R).sdf
    assert (smaller - wanted).abs().max() < 0.1 * (wanted.max() - wanted.min())


def test_meshes_leave_in_frame_w_with_truncated_colours() -> None:
    mesh = mesh_of(ball((0.4, 0.1, -0.2), 0.3), ModelParams(resolution=48))
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    np.testing.assert_allclose(middle, (0.1, -0.2, 0.4), atol=0.01)
    assert is_closed_solid(mesh)
    in_t = mesh.vertices[:, [2, 0, 1]]
    assert mesh.colors is not None
    np.testing.assert_array_equal(mesh.colors, ((in_t + 1) / 2 * 255).astype(np.uint8))
    assert (mesh.vertices.dtype, mesh.faces.dtype) == (np.float32, np.int32)


# --- the grid's border ----------------------------------------------------------------------------


def test_a_surface_that_leaves_the_grid_is_closed_at_its_border() -> None:
    reaching = ball((0.9, 0.0, 0.0), 0.5)
    assert is_closed_solid(mesh_of(reaching, ModelParams(resolution=R)))
    opened = mesh_of(reaching, ModelParams(resolution=R, closed=False))
    assert not is_closed_solid(opened)


def test_closing_does_not_touch_a_surface_inside_the_grid() -> None:
    shape = ball((0.0, 0.0, 0.0), 0.7)
    closed = mesh_of(shape, ModelParams(resolution=R))
    assert np.array_equal(
        closed.vertices, mesh_of(shape, ModelParams(resolution=R, closed=False)).vertices
    )


# --- fields without a surface ---------------------------------------------------------------------


def constant(value: float) -> Analytic:
    return Analytic(lambda points: torch.full((len(points),), value))


@pytest.mark.parametrize(("value", "where"), [(0.4, "outside"), (-0.4, "inside")])
def test_a_field_without_a_surface_is_an_error_that_says_what_to_do(value, where) -> None:
    with pytest.raises(StageError, match=f"all of its field is {where}") as caught:
        mesh_of(constant(value), ModelParams(resolution=R))
    assert caught.value.kind == "internal"
    assert "empty_shape=repair" in caught.value.hint


def test_a_surface_in_the_outermost_layer_only_is_none() -> None:
    sdf = torch.ones(10, 10, 10)
    sdf[0] = -1.0
    assert not has_surface(sdf.flatten(), 9)
    sdf[5, 5, 5] = -1.0
    assert has_surface(sdf.flatten(), 9)


@pytest.mark.parametrize("value", [0.4, 5.0])
def test_repair_puts_a_small_solid_into_an_empty_field(value: float) -> None:
    mesh = mesh_of(constant(value), ModelParams(resolution=R, empty_shape="repair"))
    assert is_closed_solid(mesh)
    assert np.abs(mesh.vertices).max() < 3 * GRID_SCALE / R


@pytest.mark.parametrize("value", [-0.4, -5.0])
def test_repair_makes_a_box_of_a_field_that_is_all_inside(value: float) -> None:
    mesh = mesh_of(constant(value), ModelParams(resolution=R, empty_shape="repair"))
    assert is_closed_solid(mesh)
    assert np.ptp(mesh.vertices, axis=0).min() > 0.7 * GRID_SCALE


def test_the_references_repair_is_inside_out() -> None:
    params = ModelParams(resolution=R, empty_shape="reference", closed=False)
    assert volume(mesh_of(constant(0.4), params)) < 0.0
    values = repaired(torch.full((129**3,), 0.4), 128, "reference").view(129, 129, 129)
    assert values[65, 65, 65] == pytest.approx(1.0 - 0.4)
    assert values[1, 64, 64] == values[64, -2, 64] == values[0, 0, 128] == pytest.approx(-1.4)
    assert values[2, 64, 64] == values[64, 64, 64] == pytest.approx(0.4)


def test_the_references_repair_leaves_the_values_that_it_would_set_to_zero() -> None:
    values = repaired(torch.full((10**3,), 1.0), 9, "reference").view(10, 10, 10)
    assert values[5, 5, 5] == 1.0


def test_a_field_that_is_not_finite_is_an_error_that_blames_the_numbers() -> None:
    with pytest.raises(StageError, match="not finite") as caught:
        mesh_of(constant(float("nan")), ModelParams(resolution=R, empty_shape="repair"))
    assert "float32" in caught.value.hint
