"""The far side of mirrored objects: a box seen from its corner, of which all is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh

from bench.geometry.quality import front_picture, turned
from bench.geometry.shapes import FLAT
from devtools.fakes.sketched import grey_plate
from stages.contract import Mesh
from stages.evaluation import compare_surfaces, normalized
from stages.geometry.bundle import TILE
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import look
from stages.models.sketch_net import SIDE
from stages.models.sketch_net.predict import Sketch, load_network, sketch
from stages.multiview.inflate import learned
from stages.multiview.inflate.learned import see_sheets
from stages.multiview.inflate.mirror import Front, reflected
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.views import inflate_body

RED, GREEN, BLUE = (0.8, 0.2, 0.2), (0.2, 0.7, 0.2), (0.2, 0.2, 0.8)


@dataclass(frozen=True)
class Seen:
    """A box, as the network would see it that makes no mistake; `back_colour` is the truth."""

    front: Front
    told: Sketch
    back_colour: np.ndarray


def layer(box: trimesh.Trimesh, colours: np.ndarray, towards: bool) -> dict[str, np.ndarray]:
    """What the front camera sees of the faces that look towards it or away: of a convex body its
    first or last surface. Depth in half widths from the middle, normals in camera axes."""
    camera = bundle_cameras()[0]
    ray = camera.center - box.triangles_center
    kept = (np.einsum("fc,fc->f", box.face_normals, ray) > 0.0) == towards
    corners = box.vertices[box.faces[kept]].reshape(-1, 3)
    faces = np.arange(len(corners)).reshape(-1, 3).astype(np.int32)
    local = camera.to_camera(corners)
    depth = (local[:, 2:] + camera.radius) * camera.focal / camera.radius
    normal = np.repeat(box.face_normals[kept] @ camera.axes, 3, axis=0)
    colour = np.repeat(colours[kept], 3, axis=0)
    values = np.concatenate([depth, normal, colour], axis=1).astype(np.float32)
    seen = look(corners.astype(np.float32), faces, camera, SIDE, 1, open_rasterizer("cpu"))
    image = interpolate(seen, faces, values)
    depth_map = np.where(seen.covered, image[..., 0], 0.0).astype(np.float64)
    return {
        "covered": seen.covered,
        "depth": depth_map,
        "normal": image[..., 1:4],
        "colour": np.where(seen.covered[..., None], image[..., 4:7], 1.0).astype(np.float32),
    }


def box_seen(degrees: float, halves: bool = False) -> Seen:
    """A box turned by `degrees`, opposite sides of one colour; `halves`: one half of it black."""
    box = trimesh.creation.box((1.0, 0.8, 0.6)).subdivide().subdivide()
    own = np.abs(box.face_normals)
    colours = own @ np.array([RED, GREEN, BLUE])
    if halves:
        colours[box.triangles_center[:, 0] > 0.0] = 0.0
    box.apply_transform(trimesh.transformations.rotation_matrix(np.radians(degrees), (0, 1, 0)))
    near, far = layer(box, colours, True), layer(box, colours, False)
    focal = bundle_cameras()[0].focal
    front = Front(
        near["covered"], near["depth"], far["depth"], near["normal"], near["colour"], focal
    )
    across = np.array([np.cos(np.radians(degrees)), 0.0, -np.sin(np.radians(degrees))])
    told = replace(
        grey_plate(),
        alpha=near["covered"].astype(np.float32),
        front=near["depth"].astype(np.float32),
        front_error=np.full((SIDE, SIDE), 0.01, np.float32),
        normal=near["normal"],
        thickness=np.maximum(near["depth"] - far["depth"], 0.01).astype(np.float32),
        albedo=near["colour"],
        behind_normal=far["normal"],
        elevation=float(np.radians(5.0)),
        mirror=across @ bundle_cameras()[0].axes,
        mirror_certainty=0.9,
    )
    return Seen(front, told, far["colour"])


@pytest.mark.parametrize("degrees", [-55.0, -30.0, 40.0])
def test_a_box_from_its_corner_shows_its_far_sides_reflected(degrees: float) -> None:
    """Both its planes are found: nearly all of its back is where it is, in its own colours."""
    box = box_seen(degrees)
    made = reflected(box.front, box.told)
    assert made is not None
    inner = cv2.erode(made.known.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert inner.sum() > 0.5 * box.front.inside.sum()
    assert np.median(np.abs(made.depth - box.front.back)[inner]) < 0.05
    column, row = np.moveaxis(np.rint(made.source).astype(int), 2, 0)
    unlike = np.abs(box.front.colour[row, column] - box.back_colour).max(axis=2)
    assert (unlike[inner] < 0.05).mean() > 0.9
    away = np.einsum("rcx,rcx->rc", made.normal, box.told.behind_normal)
    assert np.median(away[inner]) > 0.99


def test_the_networks_plane_may_be_somewhat_wrong() -> None:
    box = box_seen(40.0)
    wrong = np.radians(40.0 - 12.0)
    mirror = np.array([np.cos(wrong), 0.0, -np.sin(wrong)]) @ bundle_cameras()[0].axes
    made = reflected(box.front, replace(box.told, mirror=mirror))
    assert made is not None
    assert np.median(np.abs(made.depth - box.front.back)[made.known]) < 0.05


@pytest.mark.parametrize(
    "change",
    [{"mirror_certainty": 0.2}, {"mirror": np.array([1.0, 0.0, 0.0])}],
    ids=["unsure", "from the front"],
)
def test_without_a_plane_nothing_is_reflected(change: dict[str, Any]) -> None:
    box = box_seen(40.0)
    assert reflected(box.front, replace(box.told, **change)) is None


def test_halves_of_other_colours_are_no_mirror_images() -> None:
    box = box_seen(35.0, halves=True)
    assert reflected(box.front, box.told) is None


def test_what_would_be_seen_before_the_object_is_not_there() -> None:
    """One half of the front lies so far back that its mirror image would hide the other."""
    box = box_seen(35.0)
    right = np.arange(SIDE) >= SIDE // 2
    depth = np.where(right & box.front.inside, box.front.depth - 0.5, box.front.depth)
    assert reflected(replace(box.front, depth=depth), box.told) is None


def test_nothing_to_be_seen_is_nothing_reflected() -> None:
    box = box_seen(35.0)
    nothing = replace(box.front, inside=np.zeros_like(box.front.inside))
    assert reflected(nothing, box.told) is None


def test_the_back_has_the_reflected_colours() -> None:
    box = box_seen(40.0)
    alpha = cv2.resize(box.told.alpha, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    picture = cv2.resize(box.front.colour, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    sheets = see_sheets(lambda small: box.told, picture, alpha)
    made = reflected(box.front, box.told)
    assert made is not None
    inner = cv2.erode(made.known.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert (sheets.detail[inner] > 0.9).mean() > 0.9
    hue = (sheets.behind.argmax(axis=2) == box.back_colour.argmax(axis=2))[inner]
    assert hue.mean() > 0.9


def test_a_house_seen_from_its_corner_is_nearer_to_the_truth(monkeypatch) -> None:
    """F-score of the body 0.63, 0.53 without the reflection."""
    truth = turned(FLAT["house"](), 40.0)
    pixels = np.asarray(front_picture(truth, TILE), np.float32) / 255.0
    alpha = pixels[..., 3]
    picture = pixels[..., :3] * pixels[..., 3:] + 1.0 - pixels[..., 3:]
    told = sketch(load_network(), learned.as_the_network_takes(picture))

    def f_score() -> float:
        sheets = see_sheets(lambda small: told, picture, alpha)
        body = inflate_body(picture, alpha, InflateParams(), sheets)
        mesh = normalized(Mesh(body.vertices, body.faces))
        return compare_surfaces(mesh, normalized(truth), samples=5000).f_score

    with_it = f_score()
    monkeypatch.setattr(learned, "reflected", lambda front, told: None)
    assert with_it > f_score() + 0.03
