"""The bundle's cameras and normal encoding against matrices that the reference computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.geometry.cameras import Camera, bundle_cameras, decode_normals, encode_normals
from stages.isomer.params import IsomerParams

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def test_projection_equals_the_references_pytorch3d_cameras() -> None:
    golden = np.load(GOLDEN / "cameras.npz")
    points = golden["py3d_points"]
    for k, camera in enumerate(bundle_cameras(float(golden["py3d_radius"]))):
        clip = camera.to_clip(points)
        # pytorch3d's NDC points left; its z is not ours.
        ndc = np.stack([-clip[:, 0], clip[:, 1]], axis=1) / clip[:, 3:]
        np.testing.assert_allclose(ndc, golden["py3d_ndc"][k, :, :2], atol=1e-5)
        np.testing.assert_allclose(-camera.axes[:, 2], golden["py3d_view_direction"][k], atol=1e-5)


def test_model_view_and_projection_equal_the_references_isomer_cameras() -> None:
    golden = np.load(GOLDEN / "cameras.npz")
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1, 1, (32, 3)), np.ones((32, 1))], axis=1)
    for k, camera in enumerate(bundle_cameras(float(golden["isomer_radius"]))):
        viewed = points @ golden["isomer_mv"][k].T
        np.testing.assert_allclose(camera.to_camera(points[:, :3]), viewed[:, :3], atol=1e-5)
        clip = viewed @ golden["isomer_proj"].T * (1, -1, 1, 1)  # the reference negates y
        np.testing.assert_allclose(camera.to_clip(points[:, :3]), clip, atol=1e-4)


def test_pixel_coordinates_and_rays_are_inverse_to_each_other() -> None:
    camera = Camera(37.0, 12.0, 4.5)
    rays = camera.pixel_rays(8)
    pixels, depth = camera.project(camera.center + 3.0 * rays, 8)
    np.testing.assert_allclose(depth, 3.0)
    np.testing.assert_allclose(pixels[2, 5], (5.5, 2.5))


def test_decoded_normals_equal_the_references_local_to_global_transform() -> None:
    golden = np.load(GOLDEN / "normal_transfer.npz")
    for k, camera in enumerate(bundle_cameras()):
        assert golden["azimuths"][k] == camera.azimuth
        assert golden["elevations"][k] == BUNDLE_ELEVATION
        expected = golden["global01"][k].transpose(1, 2, 0) * 2 - 1
        np.testing.assert_allclose(
            decode_normals(golden["local01"][k], camera), expected, atol=2e-5
        )
        matrix = camera.axes @ np.diag([-1.0, 1.0, 1.0])
        np.testing.assert_allclose(matrix, golden["matrix_global_from_local"][k], atol=1e-5)


def test_encoded_normals_equal_the_references_with_its_tilt_removed() -> None:
    golden = np.load(GOLDEN / "normal_transfer.npz")
    for k, camera in enumerate(bundle_cameras()):
        normals = golden["world_normals"][k].astype(np.float64)
        inside = golden["coverage"][k][..., 0] == 1.0
        assert inside.sum() > 50
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
        expected = (golden["bundle_normals_correct"][k] + 1.0) / 2.0  # stored before encoding
        np.testing.assert_allclose(
            encode_normals(normals, camera)[inside], expected[inside], atol=1e-4
        )


def test_the_isomer_stage_projects_from_the_bundles_own_distance() -> None:
    assert IsomerParams().radius == Camera(0.0).radius
