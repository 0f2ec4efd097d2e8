"""The body as the sketch's network sees it."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.geometry.quality import front_picture
from bench.geometry.shapes import FLAT, SHAPES
from devtools.fakes.sketched import grey_plate
from devtools.pictures import disc
from devtools.solids import is_closed_solid
from stages.contract import Context, Mesh, StageError
from stages.evaluation import compare_surfaces, normalized
from stages.geometry.bundle import TILE
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import open_rasterizer
from stages.models.sketch_net.opening import See
from stages.models.sketch_net.predict import Sketch, load_network, sketch
from stages.multiview.inflate import stage as stage_module
from stages.multiview.inflate.learned import SIDE, Sheets, see_sheets
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.stage import Inflate
from stages.multiview.inflate.standing import ground_under, leaning, stood_up
from stages.multiview.inflate.views import inflate_body, make_views

PARAMS = InflateParams(grid=192)


def told(front: np.ndarray, thickness: float, elevation: float = 0.0) -> See:
    """A network that sees a surface at these depths, facing the camera, whatever the picture."""
    plate = replace(
        grey_plate(),
        front=front.astype(np.float32),
        thickness=np.full((SIDE, SIDE), thickness, np.float32),
        elevation=elevation,
    )
    return lambda picture: plate


def gray(size: int) -> np.ndarray:
    return np.full((size, size, 3), 0.5, np.float32)


network = functools.cache(load_network)


def inputs_of(name: str, elevation: float = 5.0) -> dict[str, np.ndarray]:
    """Stage inputs: a shape of bench/, which the network was not trained on, on white."""
    camera = Camera(0.0, elevation)
    pixels = np.asarray(front_picture((SHAPES | FLAT)[name](), TILE, camera)).astype(float)
    share = pixels[..., 3:] / 255.0
    image = pixels[..., :3] * share + 255.0 * (1.0 - share)
    return {"image": np.rint(image).astype(np.uint8), "alpha": pixels[..., 3:].astype(np.uint8)}


def run(
    inputs: dict[str, np.ndarray], context: Context | None = None, **params: Any
) -> tuple[np.ndarray, np.ndarray]:
    stage = Inflate(InflateParams(**{"grid": 192, **params}))
    context = context or Context()
    stage.load(context)
    made = stage.run(inputs, context)
    return made["views"], made["view_normals"]


def test_sheets_lie_where_the_network_sees_them() -> None:
    """A disc that faces the camera, 0.3 half widths before the middle and 0.4 thick."""
    alpha = disc(TILE, 0.6).astype(np.float32)
    seen = see_sheets(told(np.full((SIDE, SIDE), 0.3), 0.4), gray(TILE), alpha)
    body = inflate_body(gray(TILE), alpha, PARAMS, seen)
    assert is_closed_solid(Mesh(body.vertices, body.faces))
    camera = bundle_cameras()[0]
    away = camera.to_camera(body.vertices)[:, 2]
    half_width = camera.radius / camera.focal
    assert np.ptp(away) == pytest.approx(0.4 * half_width, rel=0.05)


def test_a_step_in_depth_is_a_step_of_the_body() -> None:
    """The left half lies 0.5 half widths behind the right one: the outline is the picture's."""
    depth = np.where(np.arange(SIDE) < SIDE // 2, -0.25, 0.25) * np.ones((SIDE, 1))
    alpha = disc(TILE, 0.6).astype(np.float32)
    seen = see_sheets(told(depth, 0.1), gray(TILE), alpha)
    body = inflate_body(gray(TILE), alpha, PARAMS, seen)
    camera = bundle_cameras()[0]
    local = camera.to_camera(body.vertices)
    half_width = camera.radius / camera.focal
    left, right = (np.median(local[side, 2]) for side in (local[:, 0] < -0.1, local[:, 0] > 0.1))
    assert (right - left) / half_width == pytest.approx(0.5, abs=0.05)
    steep = np.abs(local[:, 0]) < 0.02 * half_width
    assert np.ptp(local[steep, 2]) / half_width > 0.5


def test_a_shrunk_picture_has_a_shrunk_body() -> None:
    values = np.linspace(0.0, 1.0, SIDE) * np.ones((SIDE, 1))
    black = np.zeros((SIDE, SIDE, 3), np.float32)
    sheets = Sheets(values, values + 1.0, black, black, 0.0, values)
    whole, smaller = sheets.fitted(1.0, 512)[0], sheets.fitted(0.5, 512)[0]
    assert np.allclose(smaller[128:384, 128:384], 0.5 * whole[::2, ::2], atol=0.01)
    assert np.ptp(smaller[:, :120]) < 0.01  # beyond the picture the border's values go on


def test_a_body_that_is_too_deep_is_shrunk_until_it_fits() -> None:
    alpha = np.rint(255.0 * disc(TILE, 0.85))[..., None].astype(np.uint8)
    image = np.where(alpha > 0, 100, 255).astype(np.uint8).repeat(3, axis=2)
    deep = told(np.full((SIDE, SIDE), 0.8), 1.6)
    made = make_views(image, alpha, PARAMS, open_rasterizer("cpu"), deep)
    for tile in [*made.views, *made.normals]:
        shown = (tile < 250).any(axis=-1)
        assert shown.any()
        assert not shown[[0, -1]].any()
        assert not shown[:, [0, -1]].any()
    width = (made.views[0] < 250).any(axis=(0, 2)).sum()
    assert 0.4 * TILE < width < 0.83 * TILE


@pytest.mark.parametrize(
    ("name", "least"),
    [("chair", 0.2), pytest.param("hat", 0.2, marks=pytest.mark.slow), ("table", 0.1)],
)
def test_things_that_do_not_lie_on_a_plane_are_seen_as_they_are(name: str, least: float) -> None:
    """F-scores of the bodies themselves; the chair's is 0.7 by the network, 0.2 by its outline."""
    inputs = inputs_of(name)
    picture, alpha = inputs["image"] / np.float32(255.0), inputs["alpha"][..., 0] / np.float32(255)
    seen = see_sheets(lambda small: sketch(network(), small), picture, alpha)
    truth = normalized((SHAPES | FLAT)[name]())
    scores = []
    for sheets in (seen, None):
        body = inflate_body(picture, alpha, PARAMS, sheets)
        mesh = normalized(Mesh(body.vertices, body.faces))
        scores.append(compare_surfaces(mesh, truth, outside_only=True, samples=4000).f_score)
    assert scores[0] > scores[1] + least


@pytest.mark.parametrize("name", ["box", "chair"])
def test_what_was_seen_from_above_stands(name: str) -> None:
    """28 degrees above: F-scores of .15 and .26 leaning back, .83 and .75 standing."""
    inputs = inputs_of(name, 28.0)
    picture, alpha = inputs["image"] / np.float32(255.0), inputs["alpha"][..., 0] / np.float32(255)
    seen = see_sheets(lambda small: sketch(network(), small), picture, alpha)
    assert 12.0 < seen.leaning < 40.0
    body = inflate_body(picture, alpha, PARAMS, seen)
    truth = normalized((SHAPES | FLAT)[name]())
    leans, stands = (
        compare_surfaces(
            normalized(Mesh(one.vertices, one.faces)), truth, outside_only=True, samples=4000
        ).f_score
        for one in (body, stood_up(body, seen.leaning))
    )
    assert stands > leans + 0.15


def seen_from(degrees: float, error: float, **told_of: Any) -> Sketch:
    """What a network says that sees nothing but how high the camera stood."""
    see = told(np.zeros((SIDE, SIDE)), 0.3, np.deg2rad(degrees))
    return replace(see(gray(SIDE)), elevation_error=np.deg2rad(error), **told_of)


def test_what_may_stand_on_nothing_has_no_ground() -> None:
    assert ground_under(seen_from(10.0, 30.0)) is None
    assert ground_under(seen_from(-20.0, 5.0)) is None


def test_a_base_is_level_where_the_body_ends_up() -> None:
    """Unless what is left as it is surely leans."""
    for degrees, error, height in (
        (1.0, 1.0, 1.0),
        (1.0, 4.0, 5.0),
        (10.0, 2.0, 10.0),
        (10.0, 5.0, 5.0),
        (6.5, 1.0, 6.5),
        (6.5, 5.0, 5.0),
        (-4.0, 2.0, 0.0),
    ):
        ground = ground_under(seen_from(degrees, error))
        assert ground is not None
        assert ground.below == pytest.approx(height)
        assert ground.level == (height != 1.0)


def test_a_body_leans_as_far_as_the_network_is_sure_of() -> None:
    for level in (1.0, 7.0, -29.0, 75.0):
        assert leaning(seen_from(level, 1.0)) == 0.0
    assert leaning(seen_from(11.0, 2.0)) == pytest.approx(6.0)
    assert leaning(seen_from(-4.0, 2.0)) == pytest.approx(-5.0), "from its own height, not below"
    assert leaning(seen_from(-1.0, 4.0)) == leaning(seen_from(11.0, 5.0)) == 0.0
    assert leaning(seen_from(30.0, 2.0)) == pytest.approx(25.0)
    assert leaning(seen_from(43.0, 17.0)) == pytest.approx(38.0)
    assert leaning(seen_from(60.0, 2.0)) == 0.0, "shows too little of its sides"
    assert leaning(seen_from(30.0, 17.0)) == leaning(seen_from(43.0, 22.0)) == 0.0
    oblique = np.array([0.7, 0.0, 0.714], np.float32)
    for normal, certainty, degrees in ((None, 0.9, 0.0), (None, 0.1, 25.0), (oblique, 0.9, 25.0)):
        mirror = np.array([1.0, 0.0, 0.0], np.float32) if normal is None else normal
        seen = seen_from(30.0, 13.0, mirror=mirror, mirror_certainty=certainty)
        assert leaning(seen) == pytest.approx(degrees)


def test_a_body_is_stood_up_by_what_it_leans() -> None:
    alpha = disc(TILE, 0.6).astype(np.float32)
    seen = see_sheets(told(np.zeros((SIDE, SIDE)), 0.3), gray(TILE), alpha)
    body = inflate_body(gray(TILE), alpha, PARAMS, seen)
    made = stood_up(body, 25.0)
    top, behind = (one.vertices[body.vertices[:, 1].argmax()] for one in (body, made))
    assert behind[2] < top[2] - 0.1
    assert np.allclose(made.vertices[:, 0], body.vertices[:, 0], atol=1e-6)
    assert np.allclose(made.vertices.min(axis=0)[1:], -made.vertices.max(axis=0)[1:], atol=1e-5)
    edges = [one.vertices[one.faces[:, 0]] - one.vertices[one.faces[:, 1]] for one in (body, made)]
    assert np.allclose(*(np.linalg.norm(edge, axis=1) for edge in edges), atol=1e-5)


def test_only_what_leans_gives_up_the_picture_for_the_front_view() -> None:
    alpha = np.rint(255.0 * disc(TILE, 0.6))[..., None].astype(np.uint8)
    x = np.linspace(60.0, 200.0, TILE) * np.ones((TILE, 1))
    image = np.where(alpha > 0, x[..., None], 255.0).astype(np.uint8).repeat(3, axis=2)

    def front(elevation: float, upright: bool = True) -> np.ndarray:
        see = told(np.zeros((SIDE, SIDE)), 0.05, np.deg2rad(elevation))
        params = InflateParams(grid=192, upright=upright)
        return make_views(image, alpha, params, open_rasterizer("cpu"), see).views[0]

    assert np.array_equal(front(6.0), image)
    assert np.array_equal(front(30.0, upright=False), image)
    stood = front(30.0)
    assert not np.array_equal(stood, image)
    rows = [(tile < 250).any(axis=(1, 2)).sum() for tile in (image, stood)]
    assert rows[1] < 0.97 * rows[0]  # a disc that leans away looks lower
    middle = slice(TILE // 2 - 8, TILE // 2 + 8)
    assert np.abs(stood[middle, middle].astype(int) - image[middle, middle]).max() < 12


def test_without_its_file_the_outline_decides_and_the_run_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inputs = inputs_of("teapot")
    wanted = run(inputs, shape="silhouette")
    monkeypatch.setattr(stage_module, "WEIGHTS", tmp_path / "sketch_net.safetensors")
    said: list[tuple[str, bool]] = []
    context = Context(warn=lambda text, degraded=False: said.append((text, degraded)))
    made = run(inputs, context)
    assert all(np.array_equal(a, b) for a, b in zip(made, wanted, strict=True))
    ((text, degraded),) = said
    assert degraded
    assert "silhouette" in text
    with pytest.raises(StageError, match="network cannot be read") as caught:
        run(inputs, shape="network")
    assert caught.value.kind == "missing_weights"


def test_a_damaged_file_is_told_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "sketch_net.safetensors"
    path.write_bytes(b"not tensors at all")
    monkeypatch.setattr(stage_module, "WEIGHTS", path)
    said: list[str] = []
    run(inputs_of("hat"), Context(warn=lambda text, degraded=False: said.append(text)))
    assert len(said) == 1
    assert "not a safetensors file" in said[0]


def test_the_same_picture_gives_the_same_views() -> None:
    inputs = inputs_of("animal")
    first, second = run(inputs), run(inputs)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_file_is_another_cache_key() -> None:
    assert Inflate.optional_weights(InflateParams()) == (str(stage_module.WEIGHTS),)
    assert Inflate.optional_weights(InflateParams(shape="silhouette")) == ()


def test_a_back_that_spikes_over_a_few_pixels_is_smooth() -> None:
    see = told(np.full((SIDE, SIDE), 0.2), 0.4)
    alpha = disc(TILE, 0.6).astype(np.float32)
    even = see(np.zeros(0))
    thickness = even.thickness.copy()
    thickness[SIDE // 2, 100:140] = 1.5
    spiky = see_sheets(lambda picture: replace(even, thickness=thickness), gray(TILE), alpha)
    assert np.abs(spiky.thickness[SIDE // 2 - 4 : SIDE // 2 + 5, 100:140] - 0.4).max() < 0.05
    thickness[SIDE // 2 - 12 : SIDE // 2 + 12, 100:140] = 1.5
    deep = see_sheets(lambda picture: replace(even, thickness=thickness), gray(TILE), alpha)
    assert deep.thickness[SIDE // 2, 120] > 1.2


def test_the_back_has_the_small_parts_of_what_is_seen_from_its_side_alone() -> None:
    alpha = np.rint(255.0 * disc(TILE, 0.7))[..., None].astype(np.uint8)
    image = np.where(alpha > 0, 128, 255).astype(np.uint8).repeat(3, axis=2)
    plain = told(np.full((SIDE, SIDE), 0.2), 0.4)(np.zeros(0))
    dotted = plain.albedo.copy()
    dotted[120:136, 120:136] = (1.0, 0.0, 0.0)

    def reddest(normal: tuple[float, float, float]) -> int:
        mirror = np.array(normal, np.float32)
        answer = replace(plain, albedo=dotted, mirror=mirror)
        views = make_views(image, alpha, PARAMS, open_rasterizer("cpu"), lambda _: answer).views
        return int((views[2][..., 0].astype(int) - views[2][..., 1]).max())

    assert reddest((0.1, 0.0, 0.995)) > 150
    assert reddest((1.0, 0.0, 0.0)) < 40


def test_the_line_round_a_drawing_does_not_colour_its_sides() -> None:
    cover = disc(TILE, 0.6)
    line = cover * (1.0 - disc(TILE, 0.56))
    image = np.rint(255.0 * (1.0 - line))[..., None].astype(np.uint8).repeat(3, axis=2)
    alpha = np.rint(255.0 * cover)[..., None].astype(np.uint8)
    see = told(np.full((SIDE, SIDE), 0.2), 0.8)
    white = replace(see(np.zeros(0)), albedo=np.ones((SIDE, SIDE, 3), np.float32))
    made = make_views(image, alpha, PARAMS, open_rasterizer("cpu"), lambda _: white)
    views, normals = made.views, made.normals
    inside = (normals[1] < 250).any(axis=-1)
    assert np.median(views[1][inside]) > 200
    black = np.where(cover[..., None] > 0.5, 0, 255).astype(np.uint8).repeat(3, axis=2)
    dark = replace(white, albedo=np.zeros((SIDE, SIDE, 3), np.float32))
    views = make_views(black, alpha, PARAMS, open_rasterizer("cpu"), lambda _: dark).views
    assert np.median(views[1][inside]) < 60  # a dark thing has no line


def test_highlights_stay_on_the_front() -> None:
    """The network says that the object's paint is dark where the picture is bright."""
    alpha = np.rint(255.0 * disc(TILE, 0.7))[..., None].astype(np.uint8)
    image = np.where(alpha > 0, 60, 255).astype(np.uint8).repeat(3, axis=2)
    image[230:280, 230:280] = 250
    plain = told(np.full((SIDE, SIDE), 0.2), 0.4)(np.zeros(0))
    dark = np.full((SIDE, SIDE, 3), 60.0 / 255.0, np.float32)
    aside = np.array([0.0, 0.0, 1.0], np.float32)
    answer = replace(plain, albedo=dark, mirror=aside)
    made = make_views(image, alpha, PARAMS, open_rasterizer("cpu"), lambda _: answer)
    views, normals = made.views, made.normals
    inside = (normals[2] < 250).any(axis=-1)
    assert views[0].min(axis=-1)[255, 255] > 200
    inner = (slice(160, 350), slice(160, 350))
    assert inside[inner].all()
    assert views[2][inner].max() < 120


def test_walls_have_the_normals_of_the_outline_not_of_its_stairs() -> None:
    alpha = disc(TILE, 0.6).astype(np.float32)
    seen = see_sheets(told(np.full((SIDE, SIDE), 0.2), 0.8), gray(TILE), alpha)
    body = inflate_body(gray(TILE), alpha, PARAMS, seen)
    camera = bundle_cameras()[0]
    local, normals = camera.to_camera(body.vertices), body.normals @ camera.axes
    rim = np.hypot(local[:, 0], local[:, 1]) / np.abs(local[:, 2])
    wall = rim > 0.995 * rim.max()
    around = local[wall, :2] / np.linalg.norm(local[wall, :2], axis=1, keepdims=True)
    flat = normals[wall, :2] / np.linalg.norm(normals[wall, :2], axis=1, keepdims=True)
    assert np.degrees(np.arccos(np.clip((around * flat).sum(axis=1), -1.0, 1.0))).max() < 12.0


def test_sides_and_back_are_as_bright_as_the_picture() -> None:
    """Grey in the picture, and white to the network."""
    alpha = np.rint(255.0 * disc(TILE, 0.7))[..., None].astype(np.uint8)
    image = np.where(alpha > 0, 128, 255).astype(np.uint8).repeat(3, axis=2)
    white = np.full((SIDE, SIDE, 3), 0.95, np.float32)
    plain = told(np.full((SIDE, SIDE), 0.2), 0.4)(np.zeros(0))
    answer = replace(plain, albedo=white, behind_albedo=white)
    made = make_views(image, alpha, PARAMS, open_rasterizer("cpu"), lambda _: answer)
    views, normals = made.views, made.normals
    for view, tile in zip(views[1:], normals[1:], strict=True):
        inside = (tile < 250).any(axis=-1)
        assert 110 < np.median(view[inside]) < 146
