"""What a layout promises: every face has texels of its own, evenly large, none mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from devtools.solids import animal, ball, torus
from stages.contract import Mesh
from stages.geometry.raster.cpu import CpuRasterizer
from stages.isomer.texture.charts import BARELY, choose_directions, describe, frames, pieces
from stages.isomer.texture.packing import CELL, GUTTER
from stages.isomer.texture.unwrap import CannotUnwrapError, Unwrapped, unwrap

SIZE = 512


def spring() -> Mesh:
    """Four turns of a ramp whose windings hide each other from above: one piece that overlaps."""
    turn = np.linspace(0.0, 8.0 * np.pi, 240)
    inner, outer = (
        np.stack([r * np.cos(turn), 0.03 * turn, r * np.sin(turn)], axis=1) for r in (0.3, 0.7)
    )
    index = np.arange(len(turn) - 1)
    a, b, c, d = index, index + len(turn), index + len(turn) + 1, index + 1
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([a, d, c], axis=1)])
    return Mesh(np.concatenate([inner, outer]).astype(np.float32), faces.astype(np.int32))


def soup(count: int) -> Mesh:
    """Triangles that share nothing, turned anyhow."""
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(count, 1, 3)) + 0.05 * rng.normal(size=(count, 3, 3))
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    return Mesh(corners.reshape(-1, 3).astype(np.float32), faces)


SHAPES = {
    "ball": ball,
    "torus": torus,
    "animal": animal,
    "spring": spring,
    "soup": lambda: soup(60),
}


@pytest.fixture(scope="module", params=SHAPES)
def laid(request: pytest.FixtureRequest) -> tuple[Mesh, Unwrapped]:
    mesh = SHAPES[request.param]()
    return mesh, unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(2))


def texels(cut: Unwrapped) -> np.ndarray:
    """(F, 3, 2) corners in texels, y up."""
    corners = cut.uv[cut.faces].astype(np.float64) * SIZE
    return corners * (1.0, -1.0)


def areas(corners: np.ndarray) -> np.ndarray:
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2.0


def test_every_face_is_there_with_its_own_corners(laid: tuple[Mesh, Unwrapped]) -> None:
    mesh, cut = laid
    np.testing.assert_array_equal(cut.origin[cut.faces], mesh.faces)
    assert cut.uv.dtype == np.float32
    assert cut.uv.min() >= 0.0
    assert cut.uv.max() <= 1.0


def test_no_two_faces_share_a_texel(laid: tuple[Mesh, Unwrapped]) -> None:
    """Counted by a rule of its own: centres strictly inside a face, at three times the size."""
    _, cut = laid
    side = 3 * SIZE
    count = np.zeros((side, side), np.int32)
    for corners in texels(cut) * (3.0, -3.0):
        low = np.floor(corners.min(axis=0)).astype(int)
        high = np.ceil(corners.max(axis=0)).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        inside = [
            (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])
            for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        ]
        sign = np.stack(inside) * np.sign(areas(corners[None])[0])
        count[low[1] : high[1], low[0] : high[0]] += (sign > 1e-3).all(axis=0)
    # The layout is held at texel centres; finer ones may graze where two layers part.
    assert (count > 1).sum() <= 0.002 * (count > 0).sum()
    centres = count[1::3, 1::3]
    assert centres.max() == 1


def test_no_face_is_mirrored_and_texels_are_about_as_large_everywhere(
    laid: tuple[Mesh, Unwrapped],
) -> None:
    mesh, cut = laid
    flat = areas(texels(cut))
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    true = np.linalg.norm(across, axis=1) / 2.0
    assert flat.min() > -1e-3
    shrunk = flat / np.maximum(true * cut.scale**2, 1e-12)
    big = true > np.percentile(true, 5)
    assert shrunk[big].max() < 1.01
    assert shrunk[big].min() > 0.8 * BARELY
    assert np.median(shrunk) > 0.6


def test_charts_keep_their_distance(laid: tuple[Mesh, Unwrapped]) -> None:
    """Between texels of different charts lie at least twice the gutter less a cell's rounding."""
    from scipy import ndimage

    mesh, cut = laid
    shown = cut.fragments.pix_to_face
    pairs = describe(mesh.vertices[cut.origin], cut.faces).pairs
    piece, _ = pieces(np.zeros(len(mesh.faces), np.int64), pairs)
    chart = np.where(shown >= 0, piece[shown] + 1, 0)
    reach = GUTTER * CELL
    highest = ndimage.maximum_filter(chart, 2 * reach + 1)
    lowest = ndimage.minimum_filter(np.where(chart > 0, chart, chart.max() + 1), 2 * reach + 1)
    assert (chart[chart > 0] == highest[chart > 0]).all()
    assert (chart[chart > 0] == lowest[chart > 0]).all()


def test_a_ball_takes_few_charts_and_half_of_the_texture() -> None:
    mesh = ball()
    cut = unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(2))
    assert cut.charts <= 12
    assert cut.fragments.covered.mean() > 0.4


def test_what_overlaps_is_cut_apart() -> None:
    mesh = spring()
    cut = unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(2))
    assert cut.charts >= 4


def test_the_front_of_a_ball_belongs_to_the_front_camera() -> None:
    mesh = ball()
    around = frames(0.8)
    known = describe(mesh.vertices, mesh.faces)
    chosen = choose_directions(known, around, np.zeros(3), 2)
    front = known.normals[:, 2] > 0.9
    assert (chosen[front] == 0).mean() > 0.95
    up = known.normals[:, 1] > 0.95
    assert (chosen[up] == 4).mean() > 0.95
    facing = np.einsum("fc,fc->f", known.normals, around.axes[chosen][:, :, 2])
    assert facing.min() > 0.0


def test_the_same_mesh_is_laid_out_the_same_by_any_number_of_threads() -> None:
    mesh = animal()
    one, two = (unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(n)) for n in (1, 3))
    np.testing.assert_array_equal(one.uv, two.uv)
    np.testing.assert_array_equal(one.faces, two.faces)


def test_a_mesh_of_too_many_pieces_cannot_be_unwrapped() -> None:
    mesh = soup(4000)
    with pytest.raises(CannotUnwrapError, match="charts do not fit into 256 x 256"):
        unwrap(mesh.vertices, mesh.faces, 256, CpuRasterizer(2))


def test_a_single_point_cannot_be_unwrapped() -> None:
    with pytest.raises(CannotUnwrapError, match="single point"):
        unwrap(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]), 256, CpuRasterizer(1))


def test_faces_without_area_do_no_harm() -> None:
    shape = trimesh.creation.icosphere(3)
    count = len(shape.vertices)
    degenerate = np.array([[0, 0, 1], [2, 2, 2], [0, 1, count]])
    vertices = np.concatenate([shape.vertices, shape.vertices[:1]]).astype(np.float32)
    faces = np.concatenate([shape.faces, degenerate]).astype(np.int32)
    cut = unwrap(vertices, faces, SIZE, CpuRasterizer(2))
    assert len(cut.faces) == len(faces)
    assert np.isfinite(cut.uv).all()
