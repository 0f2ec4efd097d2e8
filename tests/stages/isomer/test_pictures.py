"""Pictures of the finished mesh show its texture; where it has none, its vertices' colours."""

from __future__ import annotations

import numpy as np

from devtools.solids import ball, bundle_of
from stages.contract import Context, Mesh
from stages.geometry.bundle import join, split
from stages.geometry.raster import open_rasterizer
from stages.isomer.params import IsomerParams
from stages.isomer.pictures import draw_textured, look_around, render_views
from stages.isomer.stage import Isomer

SIZE = 96
PLATE = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], np.float32)
FACES = np.array([(0, 1, 2), (0, 2, 3)], np.int32)
UV = np.array([(0, 1), (1, 1), (1, 0), (0, 0)], np.float32)


def stripes(width: int, count: int) -> np.ndarray:
    """(count * width, count * width, 3) uint8, upright ones in red and blue."""
    red = np.arange(count * width) // width % 2 == 0
    row = np.where(red[:, None], (230, 20, 20), (20, 20, 230)).astype(np.uint8)
    return np.broadcast_to(row, (count * width, count * width, 3))


def reds(picture: np.ndarray) -> np.ndarray:
    """For each pixel of the middle row that the mesh covers, whether it is red."""
    row = picture[len(picture) // 2].astype(int)
    inside = row[row[:, 3] == 255]
    return np.asarray(inside[:, 0] > inside[:, 2])


def test_a_texture_is_seen_between_vertices() -> None:
    looks = look_around(PLATE, FACES, UV, SIZE, 4.5, open_rasterizer("cpu"))
    front, left, back, _, _ = draw_textured(looks, stripes(16, 4), threads=2)
    is_red = reds(front)
    assert len(is_red) > SIZE // 3
    assert is_red[0]
    assert np.count_nonzero(np.diff(is_red)) == 3, "four stripes"
    assert not reds(back)[0], "seen from behind the last stripe is on the left"
    assert (left[..., 3] < 255).all(), "the plate's edge"


def test_any_number_of_threads_draws_the_same() -> None:
    looks = look_around(PLATE, FACES, UV, SIZE, 4.5, open_rasterizer("cpu"), threads=3)
    one, two = (draw_textured(looks, stripes(16, 4), threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, two)


def test_the_stage_draws_the_texture_of_its_files() -> None:
    """Stripes that are narrower than the mesh's faces: its vertices cannot have them."""
    round_one = ball()
    colors, normals = split(bundle_of(round_one))
    tile = len(colors[0])
    wide = tile // 16
    colors = np.where((colors < 1.0).any(axis=-1, keepdims=True), stripes(wide, 16) / 255.0, 1.0)
    stage = Isomer(IsomerParams(stage2_steps=0, render_size=SIZE, target_faces=200))
    stage.load(Context())
    inputs = {"bundle": join(colors.astype(np.float32), normals), "coarse_mesh": round_one}
    front = stage.run(inputs, Context(threads=2))["renders"][0]
    stage.close()
    middles = (np.arange(5, 11) + 0.5) * SIZE / 16  # of the stripes in the middle
    row = front[SIZE // 2, middles.astype(int)].astype(int)
    assert (row[:, 0] > 200).tolist() == [False, True] * 3
    assert (row[:, 2] > 200).tolist() == [True, False] * 3


def test_colours_of_vertices_are_drawn_where_there_is_no_texture() -> None:
    colors = np.array([(230, 20, 20), (20, 20, 230), (20, 20, 230), (230, 20, 20)], np.uint8)
    mesh = Mesh(PLATE, FACES, colors)
    front = render_views(mesh, SIZE, 4.5, open_rasterizer("cpu"))[0]
    assert np.count_nonzero(np.diff(reds(front))) == 1
