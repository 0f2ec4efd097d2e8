"""What no view shows keeps its shape while what the views show is fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from devtools.fields import box
from devtools.solids import solid, tiles
from stages.contract import Context, Mesh
from stages.geometry.numpy_edges import compact
from stages.geometry.raster import open_rasterizer
from stages.geometry.render import vertex_normals
from stages.isomer.params import IsomerParams
from stages.isomer.refine import loop, start
from stages.isomer.refine.asked import TOLERANCE, tolerances
from stages.isomer.refine.refine import refine
from stages.isomer.refine.start import Start
from stages.isomer.refine.unseen import eaten, hold

SIZE = 128
STEP = 0.05
TOP = 0.3
HALF = (0.7, 0.06, 0.5)
"""Half sides of the table's top."""


def true_table() -> Mesh:
    top = trimesh.creation.box(2.0 * np.array(HALF))
    top.apply_translation((0.0, TOP - HALF[1], 0.0))
    parts = [top]
    for x in (-0.55, 0.55):
        for z in (-0.35, 0.35):
            leg = trimesh.creation.box((0.16, 0.6, 0.16))
            leg.apply_translation((x, -0.05, z))
            parts.append(leg)
    return solid(trimesh.util.concatenate(parts), flat=True)


def soft_table() -> Mesh:
    """The same from blurred voxels."""
    axis = np.arange(-1.0, 1.0, STEP) + STEP / 3.0
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    field = box(*HALF)(points - (0.0, TOP - HALF[1], 0.0))
    for x in (-0.55, 0.55):
        for z in (-0.35, 0.35):
            field = np.minimum(field, box(0.08, 0.3, 0.08)(points - (x, -0.05, z)))
    soft = gaussian_filter(field, 0.8)
    vertices, faces, _, _ = marching_cubes(soft, 0.0, gradient_direction="ascent")
    placed = axis[0] + vertices * STEP
    return Mesh(placed.astype(np.float32), faces[:, ::-1].astype(np.int32))


class Told:
    """A context, and what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.costs: list[str] = []

    def refine(self, mesh: Mesh, views: np.ndarray, steps: int, **params: Any) -> Mesh:
        settings = {"start": "mesh", "stage2_edges": (0.06, 0.03), **params}

        def warn(text: str, *, degraded: bool = False) -> None:
            assert degraded
            self.costs.append(text)

        return refine(
            mesh,
            views,
            IsomerParams(stage2_steps=steps, **settings),
            open_rasterizer("cpu"),
            Context(seed=1, warn=warn),
            lambda step, note: self.notes.append(note),
        )


@dataclass(frozen=True)
class Refined:
    views: np.ndarray
    start: Mesh
    mesh: Mesh
    told: Told


@pytest.fixture(scope="module")
def table() -> Refined:
    views, _ = tiles(true_table(), SIZE)
    soft, told = soft_table(), Told()
    return Refined(views, soft, told.refine(soft, views, 25), told)


def on_top(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Heights and upward parts of the normals, (N,), at the upper side away from its rim."""
    x, y, z = mesh.vertices.T
    normals = vertex_normals(mesh.vertices, mesh.faces)
    inside = (np.abs(x) < HALF[0] - 0.15) & (np.abs(z) < HALF[2] - 0.15)
    rows = inside & (y > TOP - HALF[1]) & (normals[:, 1] > 0.0)
    return y[rows], normals[rows, 1]


def test_a_flat_top_that_no_view_shows_stays_flat(
    table: Refined,
) -> None:
    """Let loose, its normals lean to 0.8 and it is 0.05 high; processors differ by 0.006."""
    height, upward = on_top(table.mesh)
    assert len(height) > 100
    assert np.ptp(height) < 0.042
    assert upward.min() > 0.9
    assert abs(height.mean() - TOP) < 0.02
    assert not table.told.costs


def legs_of(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    lower = (mesh.vertices[:, 1] < TOP - 3.0 * HALF[1])[mesh.faces].all(axis=1)
    return compact(mesh.vertices, mesh.faces[lower])


def test_a_start_is_not_replaced_by_one_that_lacks_what_no_view_shows(
    table: Refined, monkeypatch: pytest.MonkeyPatch
) -> None:
    legs = Start(*legs_of(table.start), "legs")
    monkeypatch.setattr(start, "_fuse", lambda *arguments: legs)
    angles = iter((20.0, 5.0))
    monkeypatch.setattr(start, "disagreement", lambda *arguments: next(angles))
    told = Told()
    told.refine(table.start, table.views, 1, start="auto")
    assert told.notes[0] == "from the coarse mesh: only it has what no view shows"


def test_a_result_that_has_lost_what_no_view_shows_is_not_taken(
    table: Refined, monkeypatch: pytest.MonkeyPatch
) -> None:
    legs = legs_of(table.start)
    monkeypatch.setattr(loop.Refiner, "run", lambda *arguments: legs)
    told = Told()
    found = told.refine(table.start, table.views, 1)
    np.testing.assert_array_equal(found.faces, table.start.faces)
    assert "no view shows" in told.costs[0]


def sheet(height: float) -> np.ndarray:
    x, z = np.meshgrid(np.linspace(0.0, 1.0, 41), np.linspace(0.0, 1.0, 41))
    return np.stack([x, 0.0 * x + height, z], axis=-1).reshape(-1, 3)


def test_what_goes_along_with_what_is_shown_has_not_been_eaten() -> None:
    before = sheet(0.0)
    share = (before[:, 0] > 0.5).astype(np.float32)
    assert eaten(before, share, sheet(0.2)) == 0.0
    assert eaten(before, share, before[share > 0.0]) == pytest.approx(0.25, abs=0.05)
    assert eaten(before, np.ones(len(before)), before[:10]) == 0.0


def test_what_no_view_shows_goes_home_and_its_rim_along_with_what_is_seen() -> None:
    """A strip of 60 vertices, seen at one end, which has moved by 0.4."""
    homes = torch.zeros(60, 3)
    homes[:, 0] = torch.arange(60.0)
    share = torch.zeros(60, 1)
    share[0] = 1.0
    moved = homes.clone()
    moved[0, 1], moved[40, 1] = 0.4, 5.0
    ends = torch.stack([torch.arange(59), torch.arange(1, 60)], dim=1)
    for _ in range(150):
        moved, _ = hold(moved, moved, homes, torch.zeros(60, 1), share, torch.ones(60, 1), ends)
    height = moved[:, 1].numpy()
    assert height[0] == pytest.approx(0.4)
    assert height[1] > 0.2
    assert (np.diff(height[:20]) < 0.0).all()
    assert np.abs(height[30:]).max() < 0.01


def test_a_surface_that_is_seen_moves_freely() -> None:
    before, after, homes = torch.rand(9, 3), torch.rand(9, 3), torch.rand(9, 3)
    ends = torch.stack([torch.arange(8), torch.arange(1, 9)], dim=1)
    none, all_of_it = torch.zeros(9, 1), torch.ones(9, 1)
    found, earned = hold(before, after, homes, none, all_of_it, all_of_it, ends)
    np.testing.assert_allclose(found, after, atol=1e-6)
    assert earned.eq(1.0).all()


def test_where_nothing_is_asked_any_more_a_surface_stays_where_it_had_reason_to_go() -> None:
    before, after, homes = torch.rand(9, 3), torch.rand(9, 3), torch.rand(9, 3)
    ends = torch.stack([torch.arange(8), torch.arange(1, 9)], dim=1)
    none, all_of_it = torch.zeros(9, 1), torch.ones(9, 1)
    found, _ = hold(before, after, homes, all_of_it, all_of_it, none, ends)
    np.testing.assert_allclose(found, before, atol=1e-6)
    alone = homes.clone()
    alone[4] = after[4]
    found, _ = hold(homes, alone, homes, none, all_of_it, none, ends)
    np.testing.assert_allclose(found[4], homes[4], atol=1e-6)


def ramp_of(normals: np.ndarray) -> np.ndarray:
    return tolerances((normals[None] + 1.0) / 2.0, np.ones((1, 128, 128), bool))[0]


def test_flat_parts_tolerate_what_curves_do_not() -> None:
    x, y = np.meshgrid(np.linspace(-0.7, 0.7, 128), np.linspace(-0.7, 0.7, 128))
    ball = np.stack([x, y, np.sqrt(1.0 - x * x - y * y)], axis=-1)
    wall = np.broadcast_to([0.6, 0.0, 0.8], (128, 128, 3))
    assert ramp_of(ball).max() == 0.0
    assert ramp_of(wall).min() == pytest.approx(TOLERANCE)
    corner = np.where(x[..., None] < 0.0, wall, [-0.6, 0.0, 0.8])
    assert ramp_of(corner).min() == pytest.approx(TOLERANCE), "also beside an edge"
