"""The hull stages: closed meshes whose silhouettes and normals are the bundle's."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from scipy import ndimage
from skimage.measure import marching_cubes

from bench.geometry.cases import shape_case
from devtools import solids
from devtools.fakes.tools import ROOT
from devtools.pictures import coverage as drawn
from devtools.pictures import disc, grid, ring
from devtools.solids import bundle_of, chamfer, is_closed_solid, orange, silhouette_ious, tiles
from stages.contract import BadInput, Context, Mesh, StageError
from stages.geometry.bundle import join, split
from stages.geometry.camera_rig import RADIUS
from stages.geometry.cameras import bundle_cameras, decode_normals
from stages.geometry.silhouettes import clean, coverage, coverage_of_colors, signed_distance
from stages.lrm.hull import stage as stage_module
from stages.lrm.hull.params import HullParams, ReferenceParams
from stages.lrm.hull.stage import HullReconstruct, HullReference

SHAPES = {
    "ball": solids.ball(),
    "torus": solids.torus(),
    "box": solids.box(1.2, 0.8, 0.6),
    "cylinder": solids.upright_cylinder(),
    "animal": solids.animal(),
}


SIDE = 256
"""Of a tile, in pixels; half a real bundle's, where that is enough."""


@functools.cache
def seen(name: str, size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Normal tiles and coverage of a shape, which most tests here need: not to be written to."""
    normals, cover = tiles(SHAPES[name], size)
    normals.flags.writeable = cover.flags.writeable = False
    return normals, cover


def bundle(name: str, size: int = 512) -> np.ndarray:
    return orange(*seen(name, size))


def reconstruct(bundle: np.ndarray, threads: int = 2, **params: Any) -> Mesh:
    stage = HullReconstruct(HullParams(**params))
    stage.inputs[0].check(bundle)
    mesh = stage.run({"bundle": bundle}, Context(threads=threads))["coarse_mesh"]
    for spec in stage.outputs:
        spec.check(mesh)
    assert isinstance(mesh, Mesh)
    return mesh


def plain_carving(cover: np.ndarray, nodes: int = 96) -> Mesh:
    """Marching cubes on the largest silhouette distance: what the stage has to be better than."""
    axis = np.linspace(-1.1, 1.1, nodes)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    worst = np.full(points.shape[:3], -np.inf)
    for camera, distance in zip(bundle_cameras(), signed_distance(cover), strict=True):
        at, _ = camera.project(points, cover.shape[1])
        rows, columns = np.moveaxis(at, -1, 0)[::-1] - 0.5
        worst = np.maximum(worst, ndimage.map_coordinates(distance, [rows, columns], order=1))
    vertices, faces, _, _ = marching_cubes(worst, 0.0, gradient_direction="ascent")
    scaled = vertices * (axis[1] - axis[0]) - 1.1
    return Mesh(scaled.astype(np.float32), faces.astype(np.int32))


@pytest.fixture(scope="module")
def rebuilt() -> dict[str, Mesh]:
    return {name: reconstruct(bundle(name, SIDE)) for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_meshes_are_closed_and_of_the_promised_size(rebuilt: dict[str, Mesh], name: str) -> None:
    assert is_closed_solid(rebuilt[name])
    assert 20_000 <= len(rebuilt[name].faces) <= 60_000


@pytest.mark.parametrize("name", SHAPES)
def test_silhouettes_are_the_bundles(rebuilt: dict[str, Mesh], name: str) -> None:
    _, cover = seen(name, SIDE)
    assert min(silhouette_ious(rebuilt[name], cover)) >= 0.97


@pytest.mark.parametrize(
    ("name", "share"),
    [("ball", 0.45), ("torus", 0.45), ("box", 0.9), ("cylinder", 0.5), ("animal", 0.6)],
)
def test_shapes_are_clearly_better_than_plain_carving(
    rebuilt: dict[str, Mesh], name: str, share: float
) -> None:
    _, cover = seen(name, SIDE)
    carved = chamfer(plain_carving(cover), SHAPES[name])
    assert chamfer(rebuilt[name], SHAPES[name]) < share * carved


def test_a_ball_is_round_where_carving_leaves_it_square(rebuilt: dict[str, Mesh]) -> None:
    vertices = rebuilt["ball"].vertices
    x, y, z = vertices.T
    diagonal = (np.abs(np.abs(x) - np.abs(z)) < 0.1) & (np.abs(y) < 0.2)
    assert diagonal.sum() > 100
    assert np.abs(np.linalg.norm(vertices[diagonal], axis=1) - 0.8).max() < 0.03


def test_the_torus_keeps_its_hole(rebuilt: dict[str, Mesh]) -> None:
    mesh = rebuilt["torus"]
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).euler_number == 0


def test_shapes_are_where_they_belong_in_frame_w() -> None:
    """Off centre along all axes: a swap, a mirror or a wrong scale would show."""
    mesh = reconstruct(bundle_of(solids.ball(0.3, 0.4, 0.25, -0.3), SIDE), resolution=64)
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2.0
    assert np.abs(middle - (0.4, 0.25, -0.3)).max() < 0.03
    assert np.abs(np.ptp(mesh.vertices, axis=0) - 0.6).max() < 0.04


def test_another_camera_radius_gives_the_same_shape() -> None:
    shape = SHAPES["torus"]
    far = bundle_of(shape, SIDE, radius=4.5)
    assert chamfer(reconstruct(far, radius=4.5, resolution=64), shape) < 0.01
    assert chamfer(reconstruct(far, resolution=64), shape) > 0.02


def test_a_bundle_of_another_size_is_read() -> None:
    mesh = reconstruct(bundle("animal", 320), resolution=72)
    _, cover = seen("animal", 320)
    assert is_closed_solid(mesh)
    assert min(silhouette_ious(mesh, cover)) >= 0.96


def test_noise_specks_and_pinholes_do_no_harm() -> None:
    """As from a diffusion model: noisy normals, stray dots, holes of a pixel or two."""
    random = np.random.default_rng(5)
    noisy = bundle("ball")
    noisy += random.normal(0.0, 0.03, noisy.shape).astype(np.float32)
    for _ in range(150):
        row, column = random.integers(516, 1020), random.integers(4, 2040)
        noisy[row : row + 2, column : column + 2] = random.choice([0.3, 1.0])
    mesh = reconstruct(np.clip(noisy, 0.0, 1.0), resolution=72)
    _, cover = seen("ball")
    assert is_closed_solid(mesh)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).body_count == 1
    assert min(silhouette_ious(mesh, cover)) >= 0.96
    assert chamfer(mesh, SHAPES["ball"]) < 0.03


def test_the_distance_to_the_outline_does_not_depend_on_opencvs_threads() -> None:
    x, y = grid(512)
    cover = np.stack([disc(512), ring(512), bumpy(x, y), bumpy(y, x)]).astype(np.float32)
    usual = cv2.getNumThreads()
    found = []
    for count in (1, 2, 5):
        cv2.setNumThreads(count)
        found.append(signed_distance(cover))
    cv2.setNumThreads(usual)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def bumpy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return drawn(0.6 + 0.05 * np.sin(9 * np.arctan2(y, x)) - np.hypot(x, y), 256.0)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    torus = bundle("torus", 256)
    one, three = (reconstruct(torus, threads=n, resolution=48) for n in (1, 3))
    assert np.array_equal(one.vertices, three.vertices)
    assert np.array_equal(one.faces, three.faces)


def test_the_face_limit_is_kept() -> None:
    mesh = reconstruct(bundle("ball", 256), max_faces=5_000, resolution=64)
    assert 3_500 < len(mesh.faces) <= 5_000
    assert is_closed_solid(mesh)


@pytest.mark.parametrize(("column", "name"), [*enumerate(("front", "left", "back", "right"))])
def test_an_empty_tile_is_named(column: int, name: str) -> None:
    ball = bundle("ball", 128)
    ball[128:, column * 128 : (column + 1) * 128] = 1.0
    with pytest.raises(BadInput, match=name) as caught:
        reconstruct(ball)
    assert caught.value.hint


def test_silhouettes_that_do_not_fit_together_are_refused() -> None:
    low = bundle_of(solids.ball(0.2, y=-0.7), size=128)
    high = bundle_of(solids.ball(0.2, y=0.7), size=128)
    mixed = np.concatenate([low[:, :256], high[:, 256:]], axis=1)
    with pytest.raises(BadInput, match="no point in common"):
        reconstruct(mixed)


@pytest.mark.parametrize("shape", [(100, 300, 3), (32, 64, 3), (101, 202, 3)])
def test_another_layout_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput):
        reconstruct(np.zeros(shape, np.float32))


def test_pale_normals_inside_the_object_are_not_taken_for_background() -> None:
    """(1, 1, 1) / sqrt(3) is the normal nearest to white; beside it lies a dark one."""
    tile = np.ones((4, 128, 128, 3), np.float32)
    tile[:, 30:100, 30:100] = (1 / np.sqrt(3) + 1) / 2
    tile[:, 60:70, 30:100] = (0.5, 0.0, 0.5)
    assert (coverage(tile)[:, 33:97, 33:97] == 1.0).all()
    assert (coverage(tile)[:, :30] == 0.0).all()


def test_outlines_are_found_to_a_fraction_of_a_pixel() -> None:
    normals, _ = tiles(solids.ball(0.7), 256)
    distance = signed_distance(clean(coverage(normals)))
    camera = bundle_cameras()[0]
    angle = np.arcsin(0.7 / RADIUS)
    outline = camera.focal * np.tan(angle) * 128  # pixels from the centre
    y, x = np.mgrid[0:256, 0:256] + 0.5 - 128
    truth = np.hypot(x, y) - outline
    near = np.abs(truth) < 8
    off = (distance[0] - truth)[near]
    assert np.abs(off).mean() < 0.4  # 0.28; a pixel to one side: 0.66
    assert abs(off.mean()) < 0.2  # -0.04; half a pixel too large or small: 0.5


def test_white_spots_on_an_object_are_not_holes_but_large_pure_ones_are() -> None:
    views = np.ones((4, 200, 200, 3), np.float32)
    views[:, 40:160, 40:160] = (0.2, 0.5, 0.9)
    views[:, 60:64, 60:64] = 1.0
    views[:, 100:140, 100:140] = 1.0
    cover = coverage_of_colors(views)
    assert (cover[:, 62, 62] > 0.9).all()
    assert (cover[:, 120, 120] < 0.1).all()
    assert (cover[:, 10, 10] < 0.1).all()


def reference(views: np.ndarray, normals: np.ndarray | None) -> np.ndarray:
    stage = HullReference(ReferenceParams())
    inputs = {"views": views} | ({} if normals is None else {"view_normals": normals})
    bundle = stage.run(inputs, Context())["reference_bundle"]
    for spec in stage.outputs:
        spec.check(bundle)
    assert bundle.shape == (1024, 2048, 3)
    return np.asarray(bundle)


def test_reference_joins_views_and_their_normals_unchanged() -> None:
    random = np.random.default_rng(7)
    views, normals = random.integers(0, 256, (2, 4, 512, 512, 3), np.uint8)
    rows = split(reference(views, normals))
    assert np.array_equal(np.rint(rows[0] * 255), views)
    assert np.array_equal(np.rint(rows[1] * 255), normals)


def test_reference_makes_normals_of_views_that_come_without() -> None:
    truth, cover = seen("ball")
    views = split(bundle("ball"))[0]
    made = split(reference(np.rint(views * 255).astype(np.uint8), None))[1]
    inner = ndimage.binary_erosion(cover[0] > 0.99, iterations=8)
    for k, camera in enumerate(bundle_cameras()):
        ours, theirs = (decode_normals(t[k][inner].astype(float), camera) for t in (made, truth))
        cosine = np.clip(np.einsum("pc,pc->p", ours, theirs), -1, 1)
        assert np.degrees(np.arccos(cosine)).mean() < 12
    outside = ndimage.binary_dilation(cover[0] > 0, iterations=6)
    assert (made[0][~outside] == 1.0).all()


@pytest.mark.parametrize("name", ["box", pytest.param("house", marks=pytest.mark.slow)])
def test_the_network_tells_the_normals_of_what_is_not_round(name: str) -> None:
    case = shape_case(name)
    assert case.views.rgb is not None
    views = np.rint(case.views.rgb * 255.0).astype(np.uint8)
    inner = ndimage.binary_erosion(case.views.mask[0], iterations=8)
    camera = bundle_cameras()[0]
    truth = decode_normals(case.views.normals[0][inner].astype(float), camera)
    angles = []
    for way in ("silhouette", "network"):
        stage = HullReference(ReferenceParams(normals=way, resolution=48))
        made = split(stage.run({"views": views}, Context())["reference_bundle"])[1]
        ours = decode_normals(made[0][inner].astype(float), camera)
        cosine = np.clip(np.einsum("pc,pc->p", ours, truth), -1.0, 1.0)
        angles.append(float(np.degrees(np.arccos(cosine)).mean()))
    assert angles[1] < 0.8 * angles[0]


def test_without_the_networks_file_outlines_decide_and_the_run_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stage_module, "WEIGHTS", tmp_path / "sketch_net.safetensors")
    views = np.rint(split(bundle("ball"))[0] * 255).astype(np.uint8)
    said: list[tuple[str, bool]] = []
    context = Context(warn=lambda text, degraded=False: said.append((text, degraded)))
    params = ReferenceParams(resolution=32)
    made = HullReference(params).run({"views": views}, context)
    params = ReferenceParams(resolution=32, normals="silhouette")
    plain = HullReference(params).run({"views": views}, Context())
    assert np.array_equal(made["reference_bundle"], plain["reference_bundle"])
    ((text, degraded),) = said
    assert degraded
    assert "silhouettes" in text
    with pytest.raises(StageError, match="cannot be read") as caught:
        HullReference(ReferenceParams(normals="network")).run({"views": views}, Context())
    assert caught.value.kind == "missing_weights"
    assert "reference.normals=silhouette" in caught.value.hint


def test_reference_without_normals_refuses_an_empty_view() -> None:
    views = np.rint(split(bundle("ball"))[0] * 255).astype(np.uint8)
    views[2] = 255
    with pytest.raises(BadInput, match="back"):
        reference(views, None)


def test_a_tile_filled_to_its_border_is_bounded_by_the_other_views() -> None:
    normals, _ = tiles(SHAPES["box"], 256)
    normals[0] = (0.5, 0.5, 1.0)
    mesh = reconstruct(join(normals, normals).astype(np.float32), resolution=48)
    assert is_closed_solid(mesh)
    assert np.abs(mesh.vertices).max() < 1.4


@pytest.mark.parametrize("stage", ["HullReference(ReferenceParams())", "HullReconstruct(params)"])
def test_loading_compiles_all_that_reconstructing_needs(stage: str) -> None:
    code = f"""
from devtools import solids
from stages.contract import Context
from stages.geometry.normal_fusion import kernels, solving
from stages.lrm.hull.params import HullParams
from stages.lrm.hull.params import ReferenceParams
from stages.lrm.hull.stage import HullReconstruct, HullReference

def compiled():
    every = vars(kernels) | vars(solving)
    return {{name: len(f.signatures) for name, f in every.items() if hasattr(f, "signatures")}}

params = HullParams(resolution=48)
{stage}.load(Context())
before = compiled()
assert before["relax"] == 1, before
HullReconstruct(params).run({{"bundle": solids.bundle_of(solids.ball(), 128)}}, Context())
assert compiled() == before, (compiled(), before)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
