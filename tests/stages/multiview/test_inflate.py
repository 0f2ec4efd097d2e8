"""The inflate stage: what its views keep of the picture, and whether its bodies are solid.

By the silhouette alone, if not said otherwise; test_inflate_learned.py has the network's bodies.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy import ndimage

from devtools.pictures import coverage, disc, grid, ring
from devtools.solids import is_closed_solid
from stages.contract import BadInput, Context, Mesh
from stages.geometry.cameras import bundle_cameras, decode_normals
from stages.geometry.raster import open_rasterizer
from stages.geometry.render import look
from stages.geometry.silhouette_membrane import half_depth, membrane
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.sheets import Body, Depths, weld
from stages.multiview.inflate.stage import Inflate
from stages.multiview.inflate.views import inflate_body

SIDE = 512
FRONT, LEFT, BACK, RIGHT = range(4)


def picture(alpha: np.ndarray, color: Any) -> dict[str, np.ndarray]:
    """Stage inputs: `color` (3,) or (S, S, 3) in [0, 255], composited on white."""
    share = alpha[..., None]
    image = np.broadcast_to(np.asarray(color, float), (*alpha.shape, 3)) * share
    return {
        "image": np.rint(image + 255.0 * (1.0 - share)).astype(np.uint8),
        "alpha": np.rint(255.0 * share).astype(np.uint8),
    }


def run(inputs: dict[str, np.ndarray], **params: Any) -> tuple[np.ndarray, np.ndarray]:
    outputs = run_all(inputs, **params)
    return outputs["views"], outputs["view_normals"]


def run_all(inputs: dict[str, np.ndarray], **params: Any) -> Mapping[str, Any]:
    stage = Inflate(InflateParams(**{"grid": 192, "shape": "silhouette", **params}))
    stage.load(Context())
    outputs = stage.run(inputs, Context())
    for spec in stage.outputs:
        spec.check(outputs[spec.name])
    return outputs


def masks(tiles: np.ndarray) -> np.ndarray:
    return np.asarray((tiles < 250).any(axis=-1))


def body_of(alpha: np.ndarray, **params: Any) -> Body:
    gray = np.full((*alpha.shape, 3), 0.5, np.float32)
    return inflate_body(gray, alpha.astype(np.float32), InflateParams(**params))


def bone(side: int = SIDE) -> np.ndarray:
    """A disc of radius 0.35 with a bar of half-width 0.06 to its right."""
    x, y = grid(side)
    bar = np.minimum(0.06 - np.abs(y), 0.4 - np.abs(x - 0.4))
    return coverage(np.maximum(0.35 - np.hypot(x + 0.35, y), bar), side / 2)


def slab() -> np.ndarray:
    """Too tall and wide for the side views at its own size."""
    x, y = grid(SIDE)
    return coverage(np.minimum(0.85 - np.abs(y), 0.7 - np.abs(x)), SIDE / 2)


PAINT = (90, 160, 60)
SHAPES = {
    "slab": slab(),
    "bone": bone(),
    "disc": disc(SIDE, 0.5),
    "all of it": np.ones((64, 64)),  # has to be enlarged, too
}


@functools.cache
def made(name: str, **params: Any) -> Mapping[str, Any]:
    """What becomes of a thing of this shape: several tests look at it, and none changes it."""
    outputs = run_all(picture(SHAPES[name], PAINT), **params)
    for tiles in (outputs["views"], outputs["view_normals"]):
        tiles.flags.writeable = False
    return outputs


@pytest.mark.parametrize(
    "alpha",
    [disc(256, 0.8), ring(256), bone(256), np.maximum(disc(256, 0.2, -0.5), disc(256, 0.2, 0.5))],
    ids=["disc", "ring", "bone", "two parts"],
)
def test_bodies_are_closed_and_face_outwards(alpha: np.ndarray) -> None:
    body = body_of(alpha, grid=128)
    assert is_closed_solid(Mesh(body.vertices, body.faces))


def test_corners_inside_crosswise_do_not_spoil_the_mesh() -> None:
    noise = np.random.default_rng(3).random((64, 64))
    noise[[0, -1]] = noise[:, [0, -1]] = 0.0
    flat = np.full((64, 64), 0.1)
    depths = Depths(front=4.0 - flat, back=4.0 + flat, rim=0.0 * flat + 4.0)
    body = weld(noise, depths, bundle_cameras()[0])
    assert is_closed_solid(Mesh(body.vertices, body.faces))


def test_a_hole_stays_a_hole() -> None:
    body = body_of(ring(256), grid=128)
    shape = trimesh.Trimesh(body.vertices, body.faces, process=False)
    assert shape.euler_number == 0
    _, normals = run(picture(ring(SIDE), (200, 80, 40)))
    middle = slice(SIDE // 2 - 20, SIDE // 2 + 20)
    assert not masks(normals)[FRONT, middle, middle].any()


def test_a_disc_becomes_a_ball() -> None:
    """sqrt(R^2 - r^2) solves the equation without its screening term."""
    alpha = disc(161, 0.6)
    depth = half_depth(membrane(alpha, step=2.0 / 160, reach=100.0))
    x, y = grid(161)
    expected = np.sqrt(np.maximum(0.36 - x**2 - y**2, 0.0))
    assert np.abs(depth - expected).max() < 0.05
    assert np.abs(depth - expected)[np.hypot(x, y) < 0.55].max() < 0.005


def test_thin_parts_are_thinner_than_thick_ones() -> None:
    vertices = body_of(bone(256), grid=256).vertices
    thick = np.ptp(vertices[np.abs(vertices[:, 0] + 0.39) < 0.05, 2]) / 2.0
    thin = np.ptp(vertices[np.abs(vertices[:, 0] - 0.6) < 0.05, 2]) / 2.0
    assert 0.03 < thin < 0.1
    assert thick > 3.5 * thin


def test_no_part_is_thicker_than_the_limit() -> None:
    vertices = body_of(disc(128, 0.9), grid=128, max_depth=0.3, thickness=1.0).vertices
    assert 0.5 * (0.25 + 0.9 * 0.25) < np.ptp(vertices[:, 2]) / 2.0 <= 0.3


@pytest.mark.parametrize("side", [512, 777])
def test_the_front_view_is_the_picture(side: int) -> None:
    x, y = grid(side)
    waves = 128 + 100 * np.stack([np.sin(6 * x), np.cos(5 * y), np.sin(4 * (x + y))], axis=-1)
    inputs = picture(disc(side, 0.8), waves)
    views, normals = run(inputs)
    at_512 = 128 + 100 * np.stack(
        [np.sin(6 * (u := grid(SIDE)[0])), np.cos(5 * (v := grid(SIDE)[1])), np.sin(4 * (u + v))],
        axis=-1,
    )
    inside = disc(SIDE, 0.79) > 0.99
    error = np.mean((views[FRONT].astype(float) - at_512)[inside] ** 2)
    assert 10 * np.log10(255**2 / error) > 35
    shown, drawn = masks(views)[FRONT], masks(normals)[FRONT]
    assert (shown & drawn).sum() / (shown | drawn).sum() > 0.98


@pytest.mark.parametrize("shape", ["silhouette", "network"])
def test_colours_stay_on_their_side(shape: str) -> None:
    """The picture's left half is red: the object's right side (view 3) is red too."""
    x, _ = grid(SIDE)
    halves = np.where(x[..., None] < 0, (220.0, 30.0, 30.0), (30.0, 30.0, 220.0))
    views, _ = run(picture(disc(SIDE, 0.7), halves), shape=shape)
    middle = views[:, SIDE // 2 - 30 : SIDE // 2 + 30, SIDE // 2 - 30 : SIDE // 2 + 30]
    left, right = middle[LEFT].mean(axis=(0, 1)), middle[RIGHT].mean(axis=(0, 1))
    assert left[2] > 3 * left[0]
    assert right[0] > 3 * right[2]
    # Seen from behind, the halves have changed places.
    back = views[BACK][SIDE // 2 - 20 : SIDE // 2 + 20].astype(float)
    assert back[:, 120:160, 2].mean() > 2 * back[:, 120:160, 0].mean()
    assert back[:, -160:-120, 0].mean() > 2 * back[:, -160:-120, 2].mean()


def test_the_side_view_is_one_connected_body_of_plausible_width() -> None:
    normals = made("bone")["view_normals"]
    for side in (LEFT, RIGHT):
        mask = masks(normals)[side]
        _, parts = ndimage.label(mask)
        columns = np.flatnonzero(mask.any(axis=0))
        rows = np.flatnonzero(mask.any(axis=1))
        assert parts == 1
        assert 0.5 < len(columns) / len(rows) < 1.1  # a ball's width is its height


@pytest.mark.parametrize("shape", ["silhouette", "network"])
def test_a_face_does_not_appear_on_the_back(shape: str) -> None:
    x, y = grid(SIDE)
    eyes = np.minimum(np.hypot(x - 0.2, y + 0.1), np.hypot(x + 0.2, y + 0.1)) < 0.07
    views, _ = run(
        picture(disc(SIDE, 0.8), np.where(eyes[..., None], 0.0, (240.0, 190.0, 150.0))), shape=shape
    )
    middle = np.hypot(x, y) < 0.5
    assert views[FRONT][middle].min() < 30
    assert views[BACK][middle][:, 0].min() > 200


@pytest.mark.parametrize("shape", ["silhouette", "network"])
def test_views_have_no_white_or_dark_fringe_inside_the_outline(shape: str) -> None:
    views, normals = run(picture(disc(SIDE, 0.7), (40, 120, 200)), shape=shape)
    for side in (LEFT, BACK, RIGHT):
        inner = ndimage.binary_erosion(masks(normals)[side], iterations=2)
        off = np.abs(views[side][inner].astype(int) - (40, 120, 200)).max()
        assert off <= (12 if shape == "silhouette" else 40)  # the network tells the back's paint


def test_normals_are_those_of_a_ball_in_the_bundles_encoding() -> None:
    """Red is high where the surface faces image-left, green up, blue towards the camera."""
    _, normals = run(
        picture(disc(SIDE, 0.5), (120, 120, 120)),
        thickness=1.0, max_depth=2.0, back_depth=1.0, relief=0.0,
    )  # fmt: skip
    half, quarter = SIDE // 2, SIDE // 8
    for view in normals.astype(int):
        assert view[half, half, 2] > 245
        assert view[half, half - quarter, 0] > 160 > 95 > view[half, half + quarter, 0]
        assert view[half - quarter, half, 1] > 160 > 95 > view[half + quarter, half, 1]
    rays = bundle_cameras()[FRONT].pixel_rays(SIDE)
    decoded = decode_normals(normals[FRONT] / 255.0, bundle_cameras()[FRONT])
    inner = disc(SIDE, 0.4) > 0.99
    center = bundle_cameras()[FRONT].center
    # Where the rays meet the ball that has this outline.
    toward = -np.einsum("hwc,c->hw", rays, center) / np.einsum("hwc,hwc->hw", rays, rays)
    nearest = np.linalg.norm(center + toward[..., None] * rays, axis=-1)
    radius = nearest[disc(SIDE, 0.5) > 0.5].max()
    chord = np.sqrt(np.maximum(radius**2 - nearest**2, 0)) / np.linalg.norm(rays, axis=-1)
    points = center + (toward - chord)[..., None] * rays
    truth = points / np.linalg.norm(points, axis=-1, keepdims=True)
    cosine = np.einsum("hwc,hwc->hw", truth, decoded)[inner]
    # The body stands upright while the camera looks down by 5 degrees.
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 7


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("slab", "silhouette"),
        ("all of it", "silhouette"),
        ("all of it", "network"),
        pytest.param("slab", "network", marks=pytest.mark.slow),
    ],
)
def test_a_body_fits_into_all_views(name: str, shape: str) -> None:
    outputs = made(name, **({} if shape == "silhouette" else {"shape": shape}))
    for mask in [*masks(outputs["views"]), *masks(outputs["view_normals"])]:
        assert mask.any()
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()


@pytest.mark.parametrize("name", ["slab", "bone"])
def test_the_views_are_pictures_of_the_body(name: str) -> None:
    outputs = made(name)
    body = outputs["body"]
    assert is_closed_solid(body)
    drawn = masks(outputs["view_normals"])
    for camera, mask in zip(bundle_cameras(), drawn, strict=True):
        seen = look(body.vertices, body.faces, camera, SIDE, 1, open_rasterizer("cpu")).covered
        assert (seen & mask).sum() / (seen | mask).sum() > 0.97


def extent(mask: np.ndarray, axis: int) -> tuple[int, int]:
    """First and last column (axis 1) or row (axis 0) of a mask."""
    found = np.flatnonzero(mask.any(axis=1 - axis))
    return int(found[0]), int(found[-1])


@pytest.mark.parametrize(
    ("name", "back_depth"),
    [
        ("slab", 0.9),
        ("bone", 0.9),
        ("disc", 0.9),
        ("slab", 0.5),
        pytest.param("bone", 0.5, marks=pytest.mark.slow),
        pytest.param("disc", 0.5, marks=pytest.mark.slow),
    ],
)
def test_bodies_are_centred_in_depth(name: str, back_depth: float) -> None:
    """Also those that had to shrink to fit, and those whose front is deeper than their back."""
    z = body_of(SHAPES[name], grid=128, back_depth=back_depth).vertices[:, 2]
    assert abs(z.min() + z.max()) < 1e-3 * np.ptp(z)
    usual = back_depth == InflateParams().back_depth
    normals = made(name, **({} if usual else {"back_depth": back_depth}))["view_normals"]
    for side in (LEFT, RIGHT):
        first, last = extent(masks(normals)[side], axis=1)
        # A part near the camera looks larger, and need not be in the middle of the depth.
        assert abs((first + last) - (SIDE - 1)) / 2 < 0.06 * (last - first)


def test_a_picture_that_must_shrink_stays_in_the_middle_and_fits_its_normals() -> None:
    views, normals = made("slab")["views"], made("slab")["view_normals"]
    shown, drawn = masks(views)[FRONT], masks(normals)[FRONT]
    assert (shown & drawn).sum() / (shown | drawn).sum() > 0.98
    (left, right), (top, bottom) = extent(shown, axis=1), extent(shown, axis=0)
    assert left + right == top + bottom == SIDE - 1
    assert (bottom - top) / (right - left) == pytest.approx(0.85 / 0.7, abs=0.01)
    assert 0.7 < (bottom - top) / (0.85 * SIDE) < 0.99


def test_shading_makes_relief_only_where_it_is_asked_for() -> None:
    x, _ = grid(SIDE)
    stripes = np.where(np.sin(40 * x)[..., None] > 0, 200.0, 60.0) * np.ones(3)
    flat = run(picture(disc(SIDE, 0.8), stripes), relief=0.0)[1][FRONT].astype(int)
    deep = run(picture(disc(SIDE, 0.8), stripes), relief=0.04)[1][FRONT].astype(int)
    middle = disc(SIDE, 0.4) > 0.5
    assert np.abs(np.diff(deep[..., 0], axis=1))[middle[:, 1:]].mean() > 4 * (
        np.abs(np.diff(flat[..., 0], axis=1))[middle[:, 1:]].mean()
    )


def test_the_same_picture_gives_the_same_bytes() -> None:
    """test_inflate_learned.py has the same for the network's bodies."""
    second = run(picture(bone(), PAINT))
    for name, again in zip(("views", "view_normals"), second, strict=True):
        assert np.array_equal(made("bone")[name], again)


@pytest.mark.parametrize("speck", [False, True])
def test_a_picture_without_an_object_is_refused(speck: bool) -> None:
    alpha = np.zeros((SIDE, SIDE))
    if speck:
        alpha[5, 5] = 1.0
    with pytest.raises(BadInput, match="no object"):
        run(picture(alpha, (0, 0, 0)))
