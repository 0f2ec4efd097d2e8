"""The mesh on the preview sheet: as the cameras of the bundle see it, in its own colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.record import mesh_views
from orchestrator.record.mesh_views import AZIMUTHS, ColoredMesh, read_mesh, view
from stages.geometry import camera_rig
from stages.geometry.cameras import Camera
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import look, resolve

SIZE = 128


def blob() -> ColoredMesh:
    """A lump with a dent, off centre, of 2 x 64 x 32 faces; its colours say where a vertex is."""
    rows, columns = 33, 64
    up = np.linspace(0.0, np.pi, rows)[:, None]
    around = np.linspace(0.0, 2.0 * np.pi, columns, endpoint=False)[None]
    radius = 0.6 + 0.2 * np.sin(3.0 * around) * np.sin(up)
    vertices = np.stack(
        [
            radius * np.sin(up) * np.sin(around) + 0.1,
            np.broadcast_to(0.8 * np.cos(up), radius.shape),
            radius * np.sin(up) * np.cos(around),
        ],
        axis=-1,
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    faces = np.concatenate(
        [np.stack([a, a + columns, b], -1), np.stack([b, a + columns, b + columns], -1)]
    ).reshape(-1, 3)
    colors = np.clip((vertices + 1.0) * 127.0, 0, 255).astype(np.uint8)
    return ColoredMesh(vertices.astype(np.float32), faces.astype(np.int32), colors)


def test_the_cameras_are_the_bundle_s():
    rig = (camera_rig.RADIUS, camera_rig.BUNDLE_ELEVATION, camera_rig.FOVY)
    assert rig == (mesh_views.RADIUS, mesh_views.ELEVATION, mesh_views.FIELD_OF_VIEW)
    assert camera_rig.BUNDLE_AZIMUTHS == AZIMUTHS


@pytest.mark.parametrize("azimuth", AZIMUTHS)
def test_it_draws_what_the_stages_rasteriser_draws(azimuth):
    """Measured: a mean difference of 0.10 of 255. A camera that is one degree higher makes 0.30,
    a shift by one pixel 1.67."""
    mesh = blob()
    rasterizer = open_rasterizer("cpu", "cpu", 1)
    fragments = look(mesh.vertices, mesh.faces, Camera(azimuth), SIZE, 2, rasterizer)
    colors = interpolate(fragments, mesh.faces, mesh.colors / np.float32(255.0))
    expected = resolve(colors, fragments, 2) * 255.0
    drawn = view(mesh, azimuth, SIZE)
    assert (drawn < 250).any(axis=-1).mean() > 0.1
    assert np.abs(drawn - expected).mean() < 0.2


def triangle(depth: float, color: int, side: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    corners = [(-side, -side, depth), (side, -side, depth), (0.0, side, depth)]
    return np.array(corners, np.float32), np.full((3, 3), color, np.uint8)


def stacked(*parts: tuple[np.ndarray, np.ndarray]) -> ColoredMesh:
    return ColoredMesh(
        np.concatenate([vertices for vertices, _ in parts]),
        np.arange(3 * len(parts), dtype=np.int32).reshape(-1, 3),
        np.concatenate([colors for _, colors in parts]),
    )


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearest_face_is_seen_whatever_the_order_and_the_parts(order, monkeypatch):
    parts = [triangle(depth, color) for depth, color in ((-1.0, 10), (1.0, 200), (0.0, 90))]
    for at_once in (1_000_000, 1_000):
        monkeypatch.setattr(mesh_views, "_AT_ONCE", at_once)
        drawn = view(stacked(*parts[::order]), 0.0, 32)
        assert set(np.unique(drawn)) == {200}


def test_what_is_behind_the_camera_and_what_has_no_area_is_not_seen():
    flat = (np.zeros((3, 3), np.float32), np.zeros((3, 3), np.uint8))
    assert set(np.unique(view(stacked(triangle(9.0, 0), flat), 0.0, 32))) == {255}


def test_a_mesh_that_would_take_minutes_is_refused(monkeypatch):
    monkeypatch.setattr(mesh_views, "_MOST_TESTS", 32 * 32 * 4 * 2)
    view(stacked(*[triangle(0.0, 0)] * 2), 0.0, 32)
    with pytest.raises(ValueError, match="not drawn"):
        view(stacked(*[triangle(0.0, 0)] * 3), 0.0, 32)


def saved(folder: Path, mesh: ColoredMesh) -> list[Path]:
    paths = [folder / f"{name}.npy" for name in ("vertices", "faces", "colors")]
    for path, array in zip(paths, (mesh.vertices, mesh.faces, mesh.colors), strict=True):
        np.save(path, array)
    return paths


def test_a_mesh_is_read_as_it_was_written(tmp_path):
    mesh = blob()
    read = read_mesh(*saved(tmp_path, mesh))
    assert (view(read, 30.0, 32) == view(mesh, 30.0, 32)).all()


@pytest.mark.parametrize(
    ("vertices", "faces", "colors"),
    [
        (np.zeros((3, 3), np.float32), [[0, 1, 3]], np.zeros((3, 3), np.uint8)),
        (np.zeros((3, 3), np.float32), [[0, 1, -1]], np.zeros((3, 3), np.uint8)),
        (np.zeros((3, 3), np.float32), [[0, 1, 2]], np.zeros((2, 3), np.uint8)),
        (np.zeros((3, 2), np.float32), [[0, 1, 2]], np.zeros((3, 3), np.uint8)),
        (np.full((3, 3), np.nan, np.float32), [[0, 1, 2]], np.zeros((3, 3), np.uint8)),
        (np.zeros((3, 3), np.float32), np.zeros((0, 3)), np.zeros((3, 3), np.uint8)),
    ],
    ids=["too_high", "negative", "fewer_colors", "flat", "nowhere", "no_faces"],
)
def test_what_is_no_mesh_is_refused(tmp_path, vertices, faces, colors):
    mesh = ColoredMesh(vertices, np.array(faces, np.int32), colors)
    with pytest.raises(ValueError, match=r"face|colour|nowhere"):
        read_mesh(*saved(tmp_path, mesh))
