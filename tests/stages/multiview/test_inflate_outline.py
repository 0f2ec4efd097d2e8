"""The dark line round a drawing is no ring round the object."""

from __future__ import annotations

import numpy as np
import pytest

from devtools.pictures import disc
from stages.geometry.bundle import TILE
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import open_rasterizer
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.sheets import Body, Depths, weld
from stages.multiview.inflate.texture import without_line_round
from stages.multiview.inflate.views import front_view, inflate_body, make_views

PAINT = np.array([0.9, 0.6, 0.2], np.float32)
LINE = 8
"""Pixels of a tile."""
PARAMS = InflateParams(grid=128)


def drawing(inner: float = 0.6, line: int = LINE) -> tuple[np.ndarray, np.ndarray]:
    """Picture and alpha of an orange disc, a black line round it and a black spot in its middle."""
    cover = disc(TILE, inner).astype(np.float32)
    within = disc(TILE, inner - 2.0 * line / TILE).astype(np.float32)
    spot = disc(TILE, 0.1).astype(np.float32)
    picture = PAINT * (within - spot)[..., None] + (1.0 - cover)[..., None]
    return picture.astype(np.float32), cover


def in_the_line(inner: float = 0.6) -> np.ndarray:
    near, far = disc(TILE, inner - 8.0 / TILE), disc(TILE, inner - 2.0 * LINE / TILE + 3.0 / TILE)
    return (near > 0) & (far <= 0)


def ball() -> Body:
    return inflate_body(*drawing(), PARAMS)


def plate() -> Body:
    """Flat, and facing the camera."""
    camera = bundle_cameras()[0]
    even = np.full((320, 320), camera.radius)
    cover = disc(320, 0.6).astype(np.float32)
    return weld(cover, Depths(even - 0.1, even + 0.1, even), camera)


def test_the_line_is_replaced_by_what_is_within() -> None:
    picture, cover = drawing()
    made = without_line_round(picture, cover)
    assert np.abs(made[in_the_line()] - PAINT).max() < 0.05
    assert np.array_equal(made[disc(TILE, 0.5) > 0], picture[disc(TILE, 0.5) > 0]), "and the spot"
    assert (made[cover == 0.0] == 1.0).all()


@pytest.mark.parametrize("line", [0, 60], ids=["no line", "a broad dark border"])
def test_pictures_without_a_line_stay_as_they_are(line: int) -> None:
    picture, cover = drawing(line=line)
    assert without_line_round(picture, cover) is picture


@pytest.mark.parametrize(("body", "stays"), [(ball, False), (plate, True)])
def test_the_line_stays_on_what_is_flat_alone(body, stays: bool) -> None:
    """A screen has a dark frame; on a ball the line would be a broad ring seen from the side."""
    picture, cover = drawing()
    solid = body()
    made = front_view(picture, cover, solid.vertices, solid.faces, open_rasterizer("cpu"))
    dark = made[in_the_line()].mean(axis=1) < 0.15
    assert (dark.mean() > 0.95) if stays else (dark.mean() < 0.05), dark.mean()
    middle = disc(TILE, 0.3) > 0
    assert np.abs(made - picture)[middle].max() < 0.01


def test_the_line_stays_round_what_is_white() -> None:
    """Nothing else of it would be seen on white."""
    orange, cover = drawing()
    picture = np.where(np.abs(orange - PAINT).max(axis=2, keepdims=True) < 0.01, 0.97, orange)
    picture = picture.astype(np.float32)
    solid = ball()
    made = front_view(picture, cover, solid.vertices, solid.faces, open_rasterizer("cpu"))
    assert made is picture


def test_no_ring_is_seen_from_the_side() -> None:
    picture, cover = drawing()
    image, alpha = (np.rint(v * 255.0).astype(np.uint8) for v in (picture, cover[..., None]))
    made = make_views(image, alpha, PARAMS, open_rasterizer("cpu"))
    for view in made.views:
        shown = view[(view < 250).any(axis=2)].astype(float)
        dark = shown.mean(axis=1) < 40.0
        assert dark.mean() < 0.06, "the spot alone"
