"""The coarse mesh with a UV texture: which colour lands on which point."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import trimesh

from devtools.analytic import ball
from stages.contract import Context, Mesh, StageError
from stages.geometry.raster import open_rasterizer
from stages.lrm.prm.params import ModelParams, ReconstructParams
from stages.lrm.prm.stage import PrmReconstruct
from stages.lrm.prm.surface import mesh_of
from stages.lrm.prm.texture import Unwrapped, bake, textured_glb, unwrap_with_xatlas

CENTER = (0.3, 0.1, -0.2)
SIZE = 512


def chart_each_face(mesh: Mesh, size: int) -> Unwrapped:
    """Every face a right triangle in a square of its own: no atlas, but a valid one."""
    count = len(mesh.faces)
    side = int(np.ceil(np.sqrt(count)))
    row, column = np.divmod(np.arange(count), side)
    corners = np.array([(0.05, 0.05), (0.95, 0.05), (0.05, 0.95)])
    uv = (np.stack([column, row], axis=1)[:, None] + corners) / side
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    return Unwrapped(mesh.faces.ravel().astype(np.int64), faces, uv.reshape(-1, 2).astype("f4"))


@pytest.fixture(scope="module")
def shape() -> Mesh:
    return mesh_of(ball(CENTER, 0.5), ModelParams(resolution=12))


def place_colors(points_in_w: np.ndarray) -> np.ndarray:
    """The colour that the analytic field has at points of frame W, 0..255."""
    return (points_in_w[:, [2, 0, 1]] + 1.0) / 2.0 * 255.0


def loaded(glb: bytes) -> trimesh.Trimesh:
    scene = trimesh.load_scene(io.BytesIO(glb), file_type="glb")
    (mesh,) = scene.geometry.values()
    return mesh


def check_texture(glb: bytes, mesh: Mesh) -> None:
    """Looking up the middle of each face gives the field's colour there."""
    read = loaded(glb)
    assert len(read.faces) == len(mesh.faces)
    np.testing.assert_allclose(read.bounds, [mesh.vertices.min(0), mesh.vertices.max(0)], atol=1e-6)
    uv = read.visual.uv[read.faces].mean(axis=1)
    pixels = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
    size = len(pixels)
    rows = np.floor((1.0 - uv[:, 1]) * size).astype(int)
    columns = np.floor(uv[:, 0] * size).astype(int)
    wanted = place_colors(read.vertices[read.faces].mean(axis=1))
    error = np.abs(pixels[rows, columns] - wanted)
    assert np.quantile(error, 0.95) < 3.0
    assert error.mean() < 1.5


def test_each_point_of_the_surface_gets_the_fields_colour(shape: Mesh) -> None:
    check_texture(
        textured_glb(ball(CENTER, 0.5), shape, SIZE, open_rasterizer("cpu"), chart_each_face), shape
    )


def test_texels_between_the_charts_take_the_nearest_colour(shape: Mesh) -> None:
    cut = chart_each_face(shape, SIZE)
    texture = bake(ball(CENTER, 0.5), shape.vertices[cut.origin], cut, SIZE, open_rasterizer("cpu"))
    colors = place_colors(shape.vertices)
    assert (texture.min(axis=(0, 1)) >= np.floor(colors.min(axis=0)) - 1).all()
    assert (texture.max(axis=(0, 1)) <= colors.max(axis=0) + 1).all()


def test_xatlas_packs_a_texture_without_overlaps(shape: Mesh) -> None:
    pytest.importorskip("xatlas")
    cut = unwrap_with_xatlas(shape, SIZE)
    assert 0.0 <= cut.uv.min() <= cut.uv.max() <= 1.0
    assert np.array_equal(cut.origin[cut.faces], shape.faces)
    check_texture(textured_glb(ball(CENTER, 0.5), shape, SIZE, open_rasterizer("cpu")), shape)


def test_without_xatlas_the_stage_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(StageError, match="xatlas") as caught:
        PrmReconstruct(ReconstructParams(texture_size=64)).load(Context())
    assert caught.value.kind == "missing_dependency"
    assert "kiss3d-orchestrate[texture]" in caught.value.hint
