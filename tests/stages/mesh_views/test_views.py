"""Where the cameras stand, how the mesh is placed, and how the tiles encode its normals."""

from __future__ import annotations

import io

import numpy as np
import pytest
import trimesh
from pydantic import ValidationError

from devtools.given_meshes import SIDES, box_glb, box_stl
from stages.geometry.cameras import Camera, bundle_cameras
from stages.mesh_views.params import DISTANCE, MeshViewsParams
from stages.mesh_views.placing import EXTENT, rotation

C, S = np.cos(np.deg2rad(5.0)), np.sin(np.deg2rad(5.0))
REFERENCE = {
    0: [[-1, 0, 0], [0, C, S], [0, -S, C]],
    90: [[0, -S, C], [0, C, S], [1, 0, 0]],
    180: [[1, 0, 0], [0, C, S], [0, S, -C]],
    270: [[0, S, -C], [0, C, S], [-1, 0, 0]],
}
"""What the reference's 3D to 3D mode applies to normals of frame W, written out."""


def ball() -> bytes:
    data: bytes = trimesh.creation.icosphere(subdivisions=5).export(file_type="stl")
    return data


def expected_normals(azimuth: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, S, 3) normals in frame W of a ball of radius 0.9 as a bundle's camera sees it, and (S, S)
    bool where it does by a margin: its pixels' centres, ray by ray."""
    camera = Camera(azimuth, radius=DISTANCE)
    rays = camera.pixel_rays(size)
    along = rays @ camera.center
    length = np.einsum("ijc,ijc->ij", rays, rays)
    inside = along**2 - length * (DISTANCE**2 - 0.9**2)
    depth = (-along - np.sqrt(np.maximum(inside, 0.0))) / length
    normals = (camera.center + depth[..., None] * rays) / 0.9
    return normals, inside > 0.15


def test_the_object_is_as_large_as_the_references(look):
    vertices = look(box_glb(size=(3.0, 2.0, 1.0))).mesh.vertices
    assert np.ptp(vertices, axis=0) == pytest.approx([1.8, 1.2, 0.6])
    assert vertices.min(axis=0) + vertices.max(axis=0) == pytest.approx([0, 0, 0], abs=1e-6)
    assert pytest.approx(1.8) == EXTENT


def test_a_balls_normals_are_encoded_as_the_bundle_has_them(look):
    """v = (n' + 1) / 2, n' = (-n_x, n_y, n_z) in camera axes: the same in all views."""
    looked = look(ball(), size=128)
    front = looked.tiles[1][0]
    for camera, tile in zip(bundle_cameras(DISTANCE), looked.tiles[1], strict=True):
        normals, inner = expected_normals(camera.azimuth, 128)
        wanted = ((normals @ camera.axes) * (-1, 1, 1) + 1.0) / 2.0
        assert inner.sum() > 2000
        # 0.004 at most: facets of 2 degrees, and means over a pixel. Mirrored in x it is 0.9.
        np.testing.assert_allclose(tile[inner], wanted[inner], atol=0.02)
        np.testing.assert_allclose(tile[inner], front[inner], atol=0.02)
    assert front[64, 30, 0] > 0.6 > front[64, 98, 0], "red is high to the left"
    assert front[30, 64, 1] > 0.6 > front[98, 64, 1], "green is high above"
    assert front[64, 64, 2] > 0.98
    assert (front[0, 0] == 1.0).all(), "the background is white"


def test_the_references_quirk_turns_them_as_it_does(look):
    looked = look(ball(), size=128, normal_encoding="reference")
    for azimuth, tile in zip(REFERENCE, looked.tiles[1], strict=True):
        normals, inner = expected_normals(azimuth, 128)
        wanted = (normals @ np.array(REFERENCE[azimuth]).T + 1.0) / 2.0
        np.testing.assert_allclose(tile[inner], wanted[inner], atol=0.02)
    right = look(ball(), size=128).tiles[1]
    inner = expected_normals(0, 128)[1]
    turned = [
        np.rad2deg(np.arccos(np.clip(np.einsum("nc,nc->n", a, b), -1, 1))).max()
        for one, other in zip(looked.tiles[1], right, strict=True)
        for a, b in [(_unit(one[inner]), _unit(other[inner]))]
    ]
    assert turned == pytest.approx([10.0, 7.07, 0.0, 7.07], abs=0.8)


def _unit(colors: np.ndarray) -> np.ndarray:
    vectors = colors * 2.0 - 1.0
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize(("normals", "spread"), [("auto", 0.0), ("smooth", 0.2)])
def test_a_boxs_sides_are_flat_unless_asked_otherwise(normals, spread, look):
    tile = look(box_stl(), normals=normals).tiles[1][0]
    side = tile[20:44, 20:44]
    assert np.ptp(side, axis=(0, 1)).max() == pytest.approx(spread, abs=0.02 if not spread else 0.5)
    assert (np.ptp(side, axis=(0, 1)).max() > 0.1) == bool(spread)
    if normals == "auto":
        wall = np.array([0.0, -S, C])  # upright, seen from 5 degrees above
        np.testing.assert_allclose(tile[32, 32] * 2.0 - 1.0, wall, atol=0.02)


def test_the_files_own_normals_count(look):
    """A box whose file says that it is round: corners' normals point away from its middle."""
    points = trimesh.creation.box().vertices
    made = trimesh.Trimesh(points, trimesh.creation.box().faces, process=False)
    made.vertex_normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    data = made.export(file_type="glb", include_normals=True)
    round_one, flat = (look(one).tiles[1][0][20:44, 20:44] for one in (data, box_stl()))
    assert np.ptp(round_one, axis=(0, 1)).max() > 0.1 > np.ptp(flat, axis=(0, 1)).max()


def test_the_front_view_goes_on_as_a_picture(look):
    looked = look(box_glb(size=(1.0, 2.0, 1.0)))
    image, alpha = looked.outputs["image"], looked.outputs["alpha"]
    np.testing.assert_array_equal(image, np.rint(looked.tiles[0][0] * 255.0).astype(np.uint8))
    assert alpha[32, 32, 0] == 255
    assert (image[alpha[..., 0] == 0] == 255).all()
    assert 0.2 < (alpha == 255).mean() < 0.5


def test_soft_light_is_darker_below(look):
    even, soft = (look(ball(), light=light).tiles[0][0] for light in ("even", "soft"))
    assert np.ptp(even[12:52, 32]) < 0.01
    assert soft[14, 32, 0] > soft[50, 32, 0] + 0.05  # 0.714 and 0.619
    assert even[14, 32, 0] >= soft[14, 32, 0]


@pytest.mark.parametrize(
    ("up", "front", "seen"),
    [
        ("+y", "+z", "front"),
        ("+y", "+x", "left"),
        ("+y", "-z", "back"),
        ("-y", "+z", "front"),
        ("+z", "-y", "bottom"),
        ("+x", "-z", "back"),
    ],
)
def test_any_axis_may_be_up_or_front(up, front, seen, look):
    looked = look(box_glb(), up=up, front=front)
    np.testing.assert_allclose(looked.centers()[0], SIDES[seen][2], atol=2)


@pytest.mark.parametrize("up", ["+x", "-x", "+y", "-y", "+z", "-z"])
def test_axes_are_turned_and_never_mirrored(up):
    for front in ("+x", "-x", "+y", "-y", "+z", "-z"):
        if front[1] != up[1]:
            turn = rotation(up, front)
            np.testing.assert_allclose(turn @ turn.T, np.eye(3))
            assert np.linalg.det(turn) == pytest.approx(1.0)
        else:
            with pytest.raises(ValidationError, match="same axis"):
                MeshViewsParams(up=up, front=front)


def test_auto_axes_follow_the_kind_of_file_and_what_is_given():
    assert MeshViewsParams().axes("glb") == ("+y", "+z")
    assert MeshViewsParams().axes("stl") == ("+z", "-y")
    assert MeshViewsParams(up="+z").axes("ply") == ("+z", "-y")
    assert MeshViewsParams(up="+y").axes("stl") == ("+y", "+z")
    assert MeshViewsParams(front="+x").axes("glb") == ("+y", "+x")
    assert MeshViewsParams(front="+z").axes("stl") == ("+y", "+z")
    assert MeshViewsParams(front="-y").axes("glb") == ("+z", "-y")


def test_a_mesh_that_is_inside_out_is_turned(look):
    box = trimesh.creation.box()
    box.invert()
    looked = look(box.export(file_type="stl"))
    assert looked.said == ["the mesh has no colours: it is taken as grey"]
    corners = looked.mesh.vertices.astype(float)[looked.mesh.faces]
    assert np.einsum("fc,fc->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() > 0
    np.testing.assert_allclose(
        looked.tiles[1], look(trimesh.creation.box().export(file_type="stl")).tiles[1], atol=1e-6
    )


def test_an_open_mesh_is_drawn_from_both_sides_and_told(look):
    box = trimesh.creation.box()
    box.update_faces(box.face_normals[:, 2] < 0.5)  # without its front
    stream = io.BytesIO(box.export(file_type="ply"))
    looked = look(stream.getvalue())
    told = "\n".join(looked.said)
    assert "inner side of faces" in told
    assert looked.tiles[1][0, 32, 32, 2] > 0.98, "the back's inner side faces the camera"


def test_a_sheet_is_seen_from_where_it_can_be(look):
    sheet = trimesh.Trimesh(
        [(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], [(0, 1, 2), (0, 2, 3)]
    )
    looked = look(sheet.export(file_type="ply"))
    assert any("too thin to be seen from: left, right" in text for text in looked.said)
