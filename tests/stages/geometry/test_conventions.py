"""Front is front and left is left: one object without symmetry through every convention in use.

`labelled` draws it by intersecting rays with boxes; each test builds its cameras from the matrices
or the words of one convention and compares with that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from devtools import labelled
from devtools.labelled import NAMES, OBJECT, PALETTE, Box, Picture, cast, look_at, turn
from stages.contract import Context, Mesh
from stages.contract.artifacts import MESH
from stages.contract.user_files import read_any
from stages.geometry.bundle import join, split
from stages.geometry.camera_rig import BUNDLE_AZIMUTHS, BUNDLE_ELEVATION, RADIUS
from stages.isomer.params import IsomerParams
from stages.isomer.stage import Isomer
from stages.lrm.flexicubes.extract import extract
from stages.lrm.flexicubes.grid import vertex_count, vertex_positions
from stages.lrm.hull.params import HullParams
from stages.lrm.hull.stage import HullReconstruct
from stages.lrm.prm.render import render_bundle_colors, render_bundle_normals
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.stage import Inflate

CAMERAS = Path(__file__).resolve().parents[2] / "golden" / "cameras.npz"
SIZE = 128
COLUMNS = ("front", "left", "back", "right")
KNOB_SIDES = ("right", "left", "left", "right")
"""Where the knob, at the object's left and front, stands in each column of the bundle."""
GRID_TO_BUNDLE = (3, 0, 1, 2)
LRM_AZIMUTHS = (270.0, 0.0, 90.0, 180.0)
"""Zero123++'s tiles in bundle order, and the bundle's columns in the frame of the mesh made of that
grid."""
W_FROM_T = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""(x, y, z) of the LRM's z-up frame T -> (y, z, x) of frame W."""


def eye(azimuth: float, elevation: float, radius: float) -> np.ndarray:
    """Camera centre in frame W, by the words: azimuth 0 on +z, 90 on +x, y up."""
    a, e = np.deg2rad([azimuth, elevation])
    return radius * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])


def shoot(
    azimuth: float, size: int = SIZE, radius: float = RADIUS, boxes: tuple[Box, ...] = OBJECT
) -> Picture:
    center = eye(azimuth, BUNDLE_ELEVATION, radius)
    _, rays = look_at(center, np.array([0.0, 1.0, 0.0]), size)
    return cast(boxes, center, rays)


def encoded(picture: Picture, azimuth: float) -> np.ndarray:
    """(S, S, 3): red high where surfaces face image-left, green up, blue towards the camera."""
    axes, _ = look_at(eye(azimuth, BUNDLE_ELEVATION, RADIUS), np.array([0.0, 1.0, 0.0]), 1)
    right, up, towards = (picture.normal @ axes).transpose(2, 0, 1)
    image = (np.stack([-right, up, towards], axis=-1) + 1.0) / 2.0
    return np.where(picture.hit[..., None], image, 1.0)


def bundle_of_object(size: int) -> np.ndarray:
    pictures = [shoot(azimuth, size) for azimuth in BUNDLE_AZIMUTHS]
    rgb = np.stack([picture.colors for picture in pictures])
    normals = [encoded(p, azimuth) for p, azimuth in zip(pictures, BUNDLE_AZIMUTHS, strict=True)]
    return join(rgb, np.stack(normals)).astype(np.float32)


def object_mesh(boxes: tuple[Box, ...] = OBJECT, cuts: int = 1) -> Mesh:
    return Mesh(*labelled.mesh_arrays(boxes, cuts))


def labels_of(colors: np.ndarray) -> np.ndarray:
    """The palette's nearest entry, as an index into NAMES."""
    palette = np.array([PALETTE[name] for name in NAMES])
    return np.asarray(((colors[..., None, :] - palette) ** 2).sum(axis=-1).argmin(axis=-1))


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of the object's pixels with the same label."""
    nothing = NAMES.index("nothing")
    either = (ours != nothing) | (theirs != nothing)
    return float((ours == theirs)[either].mean())


def object_distance(points: np.ndarray) -> np.ndarray:
    """(N, 3) points of frame W -> (N,) signed distance to the object, a bound inside."""
    each = []
    for box in OBJECT:
        q = np.abs(points - (box.low + box.high) / 2.0) - (box.high - box.low) / 2.0
        each.append(np.linalg.norm(np.maximum(q, 0.0), axis=1) + np.minimum(q.max(axis=1), 0.0))
    return np.min(each, axis=0)


# The bundle, and renderers in frame W


@pytest.mark.parametrize("column", range(4))
def test_the_bundles_columns_are_front_left_back_right(column: int) -> None:
    picture = shoot(BUNDLE_AZIMUTHS[column])
    assert picture.middle() == COLUMNS[column]
    assert picture.knob_side() == KNOB_SIDES[column]
    assert "top" in {NAMES[k] for k in np.unique(picture.label)}  # seen from above
    assert "bottom" not in {NAMES[k] for k in np.unique(picture.label)}


def test_rendered_colours_and_normals_are_those_of_the_ray_caster() -> None:
    colors, _ = render_bundle_colors(object_mesh(), BUNDLE_AZIMUTHS, size=SIZE)
    normals, _ = render_bundle_normals(object_mesh(), BUNDLE_AZIMUTHS, size=SIZE)
    for k, azimuth in enumerate(BUNDLE_AZIMUTHS):
        picture = shoot(azimuth)
        assert agreement(labels_of(colors[k]), picture.label) > 0.98
        off = np.abs(normals[k] - encoded(picture, azimuth)).max(axis=-1)
        # All but a pixel at the borders between faces, 3 to 5 % of them.
        assert (off[picture.hit] < 0.01).mean() > 0.9


def test_normal_maps_are_red_at_the_image_left_green_above_and_blue_in_front() -> None:
    normals, _ = render_bundle_normals(object_mesh(), [35.0], size=2 * SIZE)
    center = eye(35.0, BUNDLE_ELEVATION, RADIUS)
    _, rays = look_at(center, np.array([0.0, 1.0, 0.0]), 2 * SIZE)
    label = cast(OBJECT, center, rays).label
    shown = {
        name: np.median(normals[0][label == NAMES.index(name)], axis=0)
        for name in ("front", "left", "top")
    }
    # From between front and left, the front face looks to image-left, the left one to image-right.
    assert shown["front"][0] > 0.7
    assert shown["left"][0] < 0.2
    assert shown["top"][1] > 0.9
    assert shown["front"][2] > 0.85


@pytest.mark.parametrize(
    ("name", "azimuths"),
    [
        ("frames_mvp", BUNDLE_AZIMUTHS),
        ("frames_ref_mvp", LRM_AZIMUTHS),
        ("isomer", BUNDLE_AZIMUTHS),
    ],
)
def test_the_references_render_and_isomer_matrices_show_the_same(
    name: str, azimuths: tuple[float, ...]
) -> None:
    with np.load(CAMERAS) as golden:
        if name == "isomer":
            matrices = golden["isomer_proj"].astype(np.float64) @ golden["isomer_mv"]
        else:
            matrices = golden[name][0].astype(np.float64)
    steps = (np.arange(SIZE) * 2.0 + 1.0) / SIZE - 1.0
    x, row = np.meshgrid(steps, steps)  # the matrices negate y: clip y grows with the row
    for matrix, azimuth in zip(matrices, azimuths, strict=True):
        # Two points on each pixel's ray, from the inverse of the projection.
        ends = []
        for depth in (0.0, 0.5):
            clip = np.stack([x, row, np.full_like(x, depth), np.ones_like(x)], axis=-1)
            point = clip @ np.linalg.inv(matrix).T
            ends.append(point[..., :3] / point[..., 3:])
        center = np.linalg.inv(matrix) @ (0.0, 0.0, -1.0, 0.0)
        picture = cast(OBJECT, center[:3] / center[3], ends[1] - ends[0])
        assert agreement(picture.label, shoot(azimuth).label) > 0.99


# The LRM's frame and its cameras


def test_the_lrms_16_numbers_see_the_bundles_views_in_frame_t() -> None:
    in_t = turn(OBJECT, W_FROM_T.T)
    with np.load(CAMERAS) as golden:
        vectors = golden["flux_r3p5"][0].astype(np.float64)
    pixels = (np.arange(SIZE) + 0.5) / SIZE
    for vector, azimuth in zip(vectors, BUNDLE_AZIMUTHS, strict=True):
        pose = vector[:12].reshape(3, 4)  # camera to world: right, up, back, centre
        fx, fy, cx, cy = vector[12:]
        u, v = np.meshgrid((pixels - cx) / fx, (pixels - cy) / fy)
        rays = np.stack([u, -v, -np.ones_like(u)], axis=-1) @ pose[:, :3].T
        picture = cast(in_t, pose[:, 3], rays)
        np.testing.assert_array_equal(picture.label, shoot(azimuth, radius=3.5).label)


def test_zero123s_grid_has_its_front_last_and_the_lrm_finds_it_at_azimuth_270() -> None:
    # Turned by 270 degrees about up: what was at azimuth a stands at a + 270.
    turned = turn(OBJECT, np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    grid = [shoot(azimuth, boxes=turned) for azimuth in (0.0, 90.0, 180.0, 270.0)]
    assert [tile.middle() for tile in grid] == ["left", "back", "right", "front"]
    for column, tile in enumerate(GRID_TO_BUNDLE):
        np.testing.assert_array_equal(grid[tile].label, shoot(BUNDLE_AZIMUTHS[column]).label)
    # The mesh made of that grid, rendered for the reference bundle.
    ours, _ = render_bundle_normals(object_mesh(turned), LRM_AZIMUTHS, size=SIZE)
    upright, _ = render_bundle_normals(object_mesh(), BUNDLE_AZIMUTHS, size=SIZE)
    # Which of two faces is nearer at the edge that they meet in is left to rounding.
    assert (np.abs(ours - upright).max(axis=-1) > 1e-4).mean() < 1e-3


def test_a_field_in_frame_t_becomes_a_mesh_in_frame_w_that_is_not_mirrored() -> None:
    resolution = 64
    points = vertex_positions(torch.arange(vertex_count(resolution)), resolution, 2.1)
    sdf = torch.from_numpy(object_distance(points.double().numpy() @ W_FROM_T.T)).float()
    vertices, faces = extract(
        sdf, torch.zeros_like(points), lambda cubes: torch.zeros(len(cubes), 21), resolution, 2.1
    )
    in_w = vertices.numpy() @ W_FROM_T.T.astype(np.float32)
    mesh = Mesh(in_w, faces.numpy().astype(np.int32))
    assert trimesh.Trimesh(in_w, mesh.faces, process=False).volume > 0.0
    normals, coverage = render_bundle_normals(mesh, BUNDLE_AZIMUTHS, size=SIZE)
    for k, azimuth in enumerate(BUNDLE_AZIMUTHS):
        picture = shoot(azimuth)
        both = picture.hit & (coverage[k] > 0.5)
        assert both.sum() / (picture.hit | (coverage[k] > 0.5)).sum() > 0.96
        off = np.abs(normals[k] - encoded(picture, azimuth)).max(axis=-1)
        assert np.median(off[both]) < 0.01


# Stages


def test_an_inflated_picture_keeps_its_sides() -> None:
    """All that a stage can know of the sides from one picture: which half is on which side."""
    picture = shoot(0.0, 256)
    halves = np.empty((256, 256, 3))
    halves[:, :128], halves[:, 128:] = PALETTE["right"], PALETTE["left"]
    image = np.where(picture.hit[..., None], halves, 1.0)
    inputs = {
        "image": np.rint(255.0 * image).astype(np.uint8),
        "alpha": np.rint(255.0 * picture.hit[..., None]).astype(np.uint8),
    }
    stage = Inflate(InflateParams(grid=128, relief=0.0))
    stage.load(Context())
    outputs = stage.run(inputs, Context())
    views, normals = outputs["views"] / 255.0, outputs["view_normals"] / 255.0
    covered = (normals < 0.95).any(axis=-1)
    # Below the knob, which is blue from everywhere.
    blue = [view[256:, :, 2] > view[256:, :, 0] for view in views]
    body = covered[:, 256:]
    assert blue[1][body[1]].mean() > 0.95
    assert blue[3][body[3]].mean() < 0.05
    # From behind, the object's left hand is at image-left; and so is the knob.
    assert blue[2][:, :250][body[2][:, :250]].mean() > 0.95
    assert blue[2][:, 262:][body[2][:, 262:]].mean() < 0.05
    top = [np.nonzero(cover)[1][:500].mean() for cover in covered]  # columns of the first rows
    assert top[0] > 256 > top[2]
    # A body that is thickest in its middle: red, so facing image-left, on the left of every view.
    for cover, tile in zip(covered, normals, strict=True):
        columns = np.nonzero(cover)[1]
        red = tile[cover][:, 0]
        assert np.corrcoef(columns, red)[0, 1] < -0.3


def test_the_hull_puts_every_part_of_a_bundle_where_the_object_has_it() -> None:
    stage = HullReconstruct(HullParams(resolution=64, max_faces=20_000))
    mesh = stage.run({"bundle": bundle_of_object(256)}, Context())["coarse_mesh"]
    distance = object_distance(mesh.vertices.astype(np.float64))
    assert np.abs(distance).mean() < 0.03
    body, knob = OBJECT
    above = mesh.vertices[mesh.vertices[:, 1] > body.high[1] + 0.1]
    assert len(above) > 100
    middle = (knob.low + knob.high) / 2.0
    np.testing.assert_allclose(
        (above.min(axis=0) + above.max(axis=0))[[0, 2]] / 2.0, middle[[0, 2]], atol=0.05
    )


@pytest.mark.parametrize("texture", ["baked", "none"])
@pytest.mark.parametrize("axes", ["gltf", "reference"])
def test_the_exported_file_has_each_colour_on_its_side_and_its_front_where_it_should(
    axes: str, texture: str, tmp_path: Path
) -> None:
    bundle = bundle_of_object(256)
    np.testing.assert_array_equal(split(bundle)[0][0], shoot(0.0, 256).colors.astype(np.float32))
    params = IsomerParams(
        stage2_steps=0,
        smooth=False,
        subdivisions=0,
        mask_erode=2,
        axes=axes,
        render_size=64,
        texture=texture,
        texture_size=1024,
    )
    stage = Isomer(params)
    context = Context()
    stage.load(context)
    mesh = object_mesh(cuts=16)
    outputs = stage.run({"bundle": bundle, "coarse_mesh": mesh}, context)
    (tmp_path / "mesh.glb").write_bytes(outputs["glb"])
    found = read_any(MESH, tmp_path / "mesh.glb")
    sign = 1.0 if axes == "gltf" else -1.0
    body, knob = OBJECT
    middle = (body.low + body.high) / 2.0
    for axis, side, label in (
        (2, body.high[2], "front"),
        (2, body.low[2], "back"),
        (0, body.high[0], "left"),
        (0, body.low[0], "right"),
    ):
        place = middle.copy()
        place[axis] = side
        place *= (sign, 1.0, sign)
        nearest = np.linalg.norm(found.vertices - place, axis=1).argmin()
        assert NAMES[labels_of(found.colors[nearest] / 255.0)] == label
    top = found.vertices[found.vertices[:, 1] > body.high[1] + 0.1].mean(axis=0)
    assert np.sign(top[0]) == np.sign(top[2]) == sign
    assert found.vertices[:, 1].max() == pytest.approx(knob.high[1], abs=1e-4)
    # The stage's own pictures start with the front, whatever the file's axes.
    names = [NAMES[labels_of(view[36, 32, :3] / 255.0)] for view in outputs["renders"][:4]]
    assert names == list(COLUMNS)
