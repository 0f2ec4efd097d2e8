"""The reference bundle's normal maps: the reference's arithmetic, and how solids must look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage

from devtools import fields, solids
from stages.contract import Mesh
from stages.geometry.camera_rig import BUNDLE_AZIMUTHS
from stages.geometry.cameras import Camera, bundle_cameras, decode_normals, encode_normals
from stages.lrm.prm.render import (
    encode_bundle_normals,
    render_bundle_colors,
    render_bundle_normals,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "normal_transfer.npz"
SIZE = 128


def wall() -> Mesh:
    """A square that faces the front camera at its own height, seen at elevation 0."""
    corners = [(-0.5, -0.5, 0.0), (0.5, -0.5, 0.0), (0.5, 0.5, 0.0), (-0.5, 0.5, 0.0)]
    return Mesh(np.array(corners, np.float32), np.array([(0, 1, 2), (0, 2, 3)], np.int32))


@pytest.mark.parametrize(
    ("tilted", "name"), [(True, "bundle_normals_reference_T1"), (False, "bundle_normals_correct")]
)
def test_encoding_equals_the_references_with_and_without_its_tilt(tilted: bool, name: str) -> None:
    with np.load(GOLDEN) as golden:
        found = encode_bundle_normals(
            golden["world_normals"], golden["coverage"][..., 0], bundle_cameras(), tilted
        )
        np.testing.assert_allclose(found, (golden[name] + 1.0) / 2.0, atol=1e-5)


def test_a_wall_before_the_camera_has_the_colour_that_the_convention_gives() -> None:
    for tilted, color in ((False, (0.5, 0.456, 0.998)), (True, (0.5, 0.24, 0.93))):
        normals, coverage = render_bundle_normals(wall(), [0.0], size=SIZE, tilted=tilted)
        middle = SIZE // 2
        np.testing.assert_allclose(normals[0, middle, middle], color, atol=5e-3)
        assert coverage[0, middle, middle] == 1.0


@pytest.mark.parametrize("azimuth", BUNDLE_AZIMUTHS)
def test_a_ball_shows_the_normals_of_a_sphere(azimuth: float) -> None:
    normals, coverage = render_bundle_normals(solids.ball(0.8), [azimuth], size=SIZE)
    camera = Camera(azimuth)
    sight = fields.trace(fields.sphere(0.8), camera, SIZE)
    inner = sight.hit & (coverage[0] == 1.0)
    assert inner.sum() > 0.95 * sight.hit.sum()
    expected = encode_normals(sight.points / 0.8, camera)
    np.testing.assert_allclose(normals[0][inner], expected[inner], atol=0.02)


def cube() -> Mesh:
    return solids.solid(trimesh.creation.box((0.9, 1.1, 0.7)))


@pytest.mark.parametrize("mesh", [cube(), solids.animal()], ids=["cube", "animal"])
def test_coverage_is_the_covered_area_and_what_is_not_covered_is_white(mesh: Mesh) -> None:
    normals, coverage = render_bundle_normals(mesh, BUNDLE_AZIMUTHS, size=SIZE)
    _, expected = solids.tiles(mesh, 8 * SIZE)
    areas = expected.mean(axis=(1, 2)) * SIZE * SIZE
    # 1 % at most; half a pixel more all round the animal is 5.
    np.testing.assert_allclose(coverage.sum(axis=(1, 2)), areas, rtol=0.02)
    np.testing.assert_array_equal(normals[coverage == 0.0], 1.0)
    for image in (normals, coverage):
        assert image.dtype == np.float32
        assert image.min() >= 0.0
        assert image.max() <= 1.0


def test_outlines_of_faces_larger_than_pixels_are_antialiased() -> None:
    _, coverage = render_bundle_normals(cube(), [30.0], size=SIZE)
    _, fine = render_bundle_normals(cube(), [30.0], size=8 * SIZE)
    expected = fine[0].reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3))
    assert ((coverage > 0.0) & (coverage < 1.0)).sum() > 100
    assert (
        np.abs(coverage[0] - expected).mean() < 0.2 * np.abs((coverage[0] > 0.5) - expected).mean()
    )


def test_a_mesh_inside_out_looks_the_same() -> None:
    mesh = solids.torus()
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())
    ours, _ = render_bundle_normals(mesh, [30.0], size=SIZE)
    theirs, _ = render_bundle_normals(turned, [30.0], size=SIZE)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_turning_the_mesh_and_the_cameras_together_changes_no_picture_without_the_tilt() -> None:
    mesh = cube()
    quarter = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)  # azimuth 0 to 90
    turned = Mesh(mesh.vertices @ quarter.T, mesh.faces)
    for tilted in (False, True):
        ours, _ = render_bundle_normals(mesh, [20.0], size=SIZE, tilted=tilted)
        theirs, _ = render_bundle_normals(turned, [110.0], size=SIZE, tilted=tilted)
        assert (np.abs(theirs - ours).max() < 1e-3) != tilted


def test_normals_never_look_away_from_the_camera() -> None:
    mesh = solids.torus()  # its smooth normals do, beside the rim and in the hole
    camera = Camera(60.0)
    normals, coverage = render_bundle_normals(mesh, [camera.azimuth], size=SIZE)
    inner = ndimage.binary_erosion(coverage[0] == 1.0)
    world = decode_normals(normals[0].astype(np.float64), camera)
    towards = -camera.pixel_rays(SIZE)
    cosine = (world * towards).sum(axis=-1) / np.linalg.norm(towards, axis=-1)
    assert cosine[inner].min() > -1e-3


def test_colours_are_the_vertices_own_unlit_on_white() -> None:
    mesh = solids.box(1.0, 1.0, 1.0)
    orange = np.tile(np.array([[230, 128, 26]], np.uint8), (len(mesh.vertices), 1))
    colored = Mesh(mesh.vertices, mesh.faces, orange)
    colors, coverage = render_bundle_colors(colored, BUNDLE_AZIMUTHS, size=SIZE)
    share = coverage[..., None].astype(np.float64)
    expected = share * orange[0] / 255.0 + (1.0 - share)
    np.testing.assert_allclose(colors, expected, atol=1e-4)
    _, of_normals = render_bundle_normals(mesh, BUNDLE_AZIMUTHS, size=SIZE)
    np.testing.assert_array_equal(coverage, of_normals)


def test_a_mesh_without_colours_is_refused() -> None:
    with pytest.raises(ValueError, match="no colours"):
        render_bundle_colors(solids.ball(), [0.0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_on_a_card_give_the_same_pictures() -> None:
    mesh = solids.torus()
    for here, there in zip(
        render_bundle_normals(mesh, [30.0], size=SIZE),
        render_bundle_normals(mesh, [30.0], size=SIZE, device="cuda:0"),
        strict=True,
    ):
        assert (np.abs(here - there) > 1e-3).mean() < 1e-3
