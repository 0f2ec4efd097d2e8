"""Colour projection, visibility and completion: the reference's numbers, and what is better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.numpy_edges import find_edges
from stages.geometry.raster import open_rasterizer, visible_faces
from stages.geometry.render import vertex_normals
from stages.isomer.completion import complete, fill_islands
from stages.isomer.projection import Evidence, View, gather, overwrite, sample
from stages.isomer.visibility import by_depth, by_faces, feather, window_depth

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "isomer_projection.npz"


class Golden:
    """The reference's projection of four images onto an ellipsoid."""

    def __init__(self) -> None:
        self.data = np.load(GOLDEN)
        self.vertices = self.data["verts"].astype(np.float64)
        self.faces = self.data["faces"]
        self.normals = vertex_normals(self.vertices, self.faces)
        self.cameras = bundle_cameras(float(self.data["radius"]))
        self.edges = find_edges(self.faces, len(self.vertices)).ends

    def project(
        self, face_ids: list[np.ndarray], weights: tuple[float, ...], power: float
    ) -> Evidence:
        images = self.data["images_rgba"] / 255.0
        views = [
            View(camera, image[..., :3], image[..., 3], weight)
            for camera, image, weight in zip(self.cameras, images, weights, strict=True)
        ]
        visible = np.stack(
            [
                by_faces(self.vertices, self.faces, camera, ids, 0.05)
                for camera, ids in zip(self.cameras, face_ids, strict=True)
            ]
        )
        return gather(self.vertices, self.normals, views, visible, power, "axis")

    def colour_pass(self) -> Evidence:
        padded = self.data["visible_faces_padded"]
        return self.project([ids[ids >= 0] for ids in padded], (1.0, 0.5, 1.0, 0.5), 2.0)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


def test_vertex_normals_equal_the_references(golden: Golden) -> None:
    np.testing.assert_allclose(golden.normals, golden.data["vertex_normals"], atol=1e-5)


def test_projected_colours_equal_the_references(golden: Golden) -> None:
    found = golden.colour_pass().blend(np.zeros((len(golden.vertices), 3)), 0.1)
    np.testing.assert_allclose(found, golden.data["color_smooth"], atol=1e-5)


def test_completed_colours_equal_the_references(golden: Golden) -> None:
    evidence = golden.colour_pass()
    seen = evidence.blend(np.zeros((len(golden.vertices), 3)), 0.1)
    known = evidence.weight >= 0.1
    assert 0 < (~known).sum() < len(known)
    found = complete(seen, known, golden.edges)
    np.testing.assert_allclose(found, golden.data["color_completed"], atol=1e-5)


def test_explicit_normal_targets_equal_the_references(golden: Golden) -> None:
    rasterizer = open_rasterizer("cpu")
    ids = [
        visible_faces(
            rasterizer.rasterize(c.to_clip(golden.vertices), golden.faces, (256, 256)).pix_to_face
        )
        for c in golden.cameras
    ]
    evidence = golden.project(ids, (1.0, 0.9, 1.0, 0.9), 1.0)
    found = evidence.replace((golden.normals + 1.0) / 2.0, 0.1)
    expected = golden.data["stage2_colors_original_linear_res256"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bilinear_samples_of_a_ramp_are_exact_and_borders_repeat() -> None:
    rows, columns = np.mgrid[:6, :8]
    image = np.stack([columns, rows], axis=-1).astype(float)
    points = np.array([(3.0, 2.25), (0.5, 0.5), (7.5, 5.5)])
    np.testing.assert_allclose(sample(image, points), points - 0.5)
    np.testing.assert_allclose(sample(image, np.array([(0.0, 0.0), (8.0, 6.0)])), [(0, 0), (7, 5)])


def test_evidence_slides_to_the_base_colour_without_a_jump_at_the_threshold() -> None:
    weight = np.array([0.0, 0.05, 0.1 - 1e-9, 0.1, 2.0])
    evidence = Evidence(weight[:, None] * 0.8, weight)
    found = evidence.blend(np.full((5, 1), 0.2), 0.1)[:, 0]
    np.testing.assert_allclose(found, [0.2, 0.5, 0.8, 0.8, 0.8], atol=1e-6)


def wall_behind_a_plate() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A fine wall at z = -0.5 and a plate at z = +0.5 that hides its middle from the front.

    Returns vertices, faces and the (n,) ids of the wall's vertices.
    """
    steps = np.linspace(-0.8, 0.8, 81)
    x, y = np.meshgrid(steps, steps)
    wall = np.stack([x, y, np.full_like(x, -0.5)], axis=-1).reshape(-1, 3)
    index = np.arange(81 * 81).reshape(81, 81)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = [np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))]
    plate = np.array([(-0.3, -0.3, 0.5), (0.3, -0.3, 0.5), (0.3, 0.3, 0.5), (-0.3, 0.3, 0.5)])
    n = len(wall)
    faces.append(np.array([(n, n + 1, n + 2), (n, n + 2, n + 3)]))
    return np.concatenate([wall, plate]), np.concatenate(faces).astype(np.int32), np.arange(n)


@pytest.mark.parametrize("margin", [0, 1])
def test_the_depth_test_keeps_an_occluders_colour_off_what_it_hides(margin: int) -> None:
    # The picture: a green wall behind a red plate. Not one vertex of the wall may turn reddish.
    vertices, faces, wall = wall_behind_a_plate()
    normals = vertex_normals(vertices, faces)
    camera = Camera(0.0, 0.0)
    fragments = open_rasterizer("cpu").rasterize(camera.to_clip(vertices), faces, (128, 128))
    red = fragments.pix_to_face >= len(faces) - 2
    image = np.where(red[..., None], (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    view = View(camera, image, np.ones((128, 128)), 1.0)

    def redness(seen: np.ndarray) -> np.ndarray:
        evidence = gather(vertices, normals, [view], seen[None], 2.0, "ray")
        return evidence.mean()[wall][seen[wall], 0]

    nearest = window_depth(fragments.depth, margin)
    tested = by_depth(vertices, normals, camera, nearest, 0.05, margin, "ray")
    assert redness(tested).max() == 0.0
    untested = by_faces(vertices, faces, camera, visible_faces(fragments.pix_to_face), 0.05)
    assert redness(untested).max() > 0.5  # what the rule without a depth test lets through
    # And the test does not throw away the wall that is in plain view.
    pixels, _ = camera.project(vertices[wall], 128)
    columns, rows = pixels.astype(int).T
    clear = np.ones(len(wall), bool)
    for dx in range(-3, 4):
        for dy in range(-3, 4):
            clear &= ~red[np.clip(rows + dy, 0, 127), np.clip(columns + dx, 0, 127)]
    assert clear.sum() > 3000
    assert tested[wall][clear].all()


def test_the_depth_test_sees_steep_surfaces_and_faces_smaller_than_a_pixel(golden: Golden) -> None:
    camera = golden.cameras[0]
    fragments = open_rasterizer("cpu").rasterize(
        camera.to_clip(golden.vertices), golden.faces, (32, 32)
    )
    toward = camera.center - golden.vertices
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    facing = np.einsum("vc,vc->v", golden.normals, toward) > 0.1
    nearest = window_depth(fragments.depth, 1)
    seen = by_depth(golden.vertices, golden.normals, camera, nearest, 0.05, 1, "ray")
    assert seen[facing].all()  # nothing occludes a convex shape
    assert not seen[~facing & (golden.normals @ camera.axes[:, 2] < 0)].any()
    owned = by_faces(
        golden.vertices, golden.faces, camera, visible_faces(fragments.pix_to_face), 0.05
    )
    assert owned[facing].mean() < 0.9  # faces without a pixel centre are lost to that rule


def test_feathering_fades_towards_unseen_vertices_and_never_adds_any() -> None:
    line = np.stack([np.arange(19), np.arange(1, 20)], axis=1)
    seen = np.arange(20) >= 8
    soft = feather(seen, line, 4)
    assert (soft[~seen] == 0).all()
    assert (np.diff(soft[8:13]) > 0).all()
    assert soft[8] < 0.5
    np.testing.assert_array_equal(soft[12:], 1.0)
    np.testing.assert_array_equal(feather(seen, line, 0), seen)


def test_completion_grows_colours_along_edges_and_leaves_known_ones_alone() -> None:
    line = np.stack([np.arange(9), np.arange(1, 10)], axis=1)
    known = np.zeros(10, bool)
    known[[0, 9]] = True
    colors = np.zeros((10, 1))
    colors[9] = 1.0
    filled = complete(colors, known, line)[:, 0]
    assert filled[0] == 0.0
    assert filled[9] == 1.0
    assert (np.diff(filled) >= 0).all()
    assert 0.2 < filled[4] + filled[5] < 1.8


def test_completion_without_anything_known_or_unknown_changes_nothing() -> None:
    line = np.array([[0, 1], [1, 2]])
    colors = np.random.default_rng(0).random((3, 3))
    for known in (np.ones(3, bool), np.zeros(3, bool)):
        np.testing.assert_array_equal(complete(colors, known, line), colors)


def test_a_part_that_no_view_sees_takes_the_colour_of_the_nearest_seen_one() -> None:
    vertices = np.array([(0, 0, 0), (1, 0, 0), (5, 0, 0), (6, 0, 0), (0.9, 0.1, 0), (1, 0.2, 0)])
    edges = np.array([[0, 1], [2, 3], [4, 5]])
    known = np.array([True, True, True, False, False, False])
    colors = np.array([[0.1], [0.2], [0.9], [0.0], [0.0], [0.0]])
    filled, now_known = fill_islands(colors, known, vertices, edges)
    np.testing.assert_allclose(filled[4:, 0], 0.2)
    np.testing.assert_array_equal(now_known, [True, True, True, False, True, True])


def test_colours_written_in_place_take_no_part_unless_asked_for(golden: Golden) -> None:
    """Trap I2: the reference seems to write every view over the mesh's own colours."""
    base = np.zeros((len(golden.vertices), 3))
    visible = np.ones((2, len(base)))
    views = [
        View(golden.cameras[k], np.full((8, 8, 3), shade), np.full((8, 8), alpha), 1.0)
        for k, shade, alpha in ((0, 0.8, 1.0), (1, 0.2, 0.25))
    ]
    written = overwrite(base, golden.vertices, views, visible)
    np.testing.assert_allclose(written, 0.25 * 0.2 + 0.75 * 0.8)
    assert (base == 0.0).all(), "the colours that were given stay as they are"
    visible[:, ::2] = 0.0
    assert (overwrite(base, golden.vertices, views, visible)[::2] == 0.0).all()
    # What a vertex slides to follows from it, so the two differ where hardly anything is seen.
    weak = Evidence(np.full((1, 3), 0.01), np.full(1, 0.02))
    assert weak.blend(np.zeros((1, 3)), 0.1)[0, 0] == pytest.approx(0.1)
    assert weak.blend(written[1:2], 0.1)[0, 0] == pytest.approx(0.1 + 0.8 * 0.65)
