"""The rasteriser: exact coverage on the CPU, agreement with pytorch3d, named failures on CUDA."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from devtools.patience import PATIENCE
from stages.contract import StageError
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import (
    NEAR_DEPTH,
    Fragments,
    interpolate,
    open_rasterizer,
    visible_faces,
)
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.raster.faults import classify

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ROOT = Path(__file__).resolve().parents[3]


def draw(clip: np.ndarray, faces: np.ndarray, size: tuple[int, int], threads: int = 2) -> Fragments:
    return open_rasterizer("cpu", threads=threads).rasterize(clip, np.asarray(faces), size)


def flat(points: list[tuple[float, float]], depth: float = 1.0) -> np.ndarray:
    """Clip coordinates of NDC points at one depth."""
    return np.array([(x * depth, y * depth, 0.0, depth) for x, y in points])


def random_mesh(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-0.9, 0.9, (count, 1, 3))
    corners = centres + rng.normal(0, 0.12, (count, 3, 3))
    return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


def test_row_0_is_the_top_and_column_0_the_left() -> None:
    found = draw(flat([(-1, 1), (-1, 0), (0, 1)]), [[0, 1, 2]], (8, 8))
    assert found.pix_to_face[0, 0] == 0
    assert found.pix_to_face[7, 0] == found.pix_to_face[0, 7] == found.pix_to_face[7, 7] == -1


def test_faces_and_depth_alone_are_those_of_the_whole_picture() -> None:
    points, faces = random_mesh(300, 7)
    clip = Camera(30.0, 5.0).to_clip(points)
    expected = draw(clip, faces, (96, 96))
    ids, depth = CpuRasterizer(2).nearest(clip, faces, 96)
    np.testing.assert_array_equal(ids, expected.pix_to_face)
    np.testing.assert_allclose(depth, expected.depth, rtol=1e-5)


def test_a_pixel_is_covered_exactly_when_its_centre_is() -> None:
    # A square from column 2.5 to 5.5 and row 2.5 to 5.5: its top and left edges run through
    # pixel centres and own them, its bottom and right edges do too and do not.
    low, high = 2.5 / 4 - 1, 5.5 / 4 - 1
    clip = flat([(low, -low), (high, -low), (high, -high), (low, -high)])
    found = draw(clip, [[0, 1, 2], [0, 2, 3]], (8, 8))
    expected = np.zeros((8, 8), bool)
    expected[2:5, 2:5] = True
    np.testing.assert_array_equal(found.covered, expected)


@pytest.mark.parametrize("winding", [1, -1])
def test_every_pixel_of_a_grid_of_quads_is_owned_exactly_once(winding: int) -> None:
    # Drawn one face at a time, so that an overlap counts twice instead of hiding in the z-buffer.
    # Half of the vertices lie exactly on pixel centres, the others anywhere.
    rng = np.random.default_rng(3)
    n, size = 6, 32
    steps = np.linspace(-1, 1, n + 1)
    grid = np.stack(np.meshgrid(steps, -steps), axis=-1)
    grid[1:-1, 1:-1] += rng.uniform(-0.1, 0.1, (n - 1, n - 1, 2))
    snapped = (np.floor((grid + 1) * size / 2) + 0.5) * 2 / size - 1
    grid[1:-1:2, 1:-1] = snapped[1:-1:2, 1:-1]
    index = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, axis=-1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])[
        :, ::winding
    ]
    clip = flat([tuple(p) for p in grid.reshape(-1, 2)])
    times_owned = sum(draw(clip, face[None], (size, size)).covered.astype(int) for face in faces)
    np.testing.assert_array_equal(times_owned, np.ones((size, size), int))


def test_the_nearest_face_wins_whatever_the_order() -> None:
    triangle = [(-3.0, -1.0), (3.0, -1.0), (0.0, 5.0)]
    clip = np.concatenate([flat(triangle, 3.0), flat(triangle, 2.0), flat(triangle, 4.0)])
    faces = np.arange(9).reshape(3, 3)
    found = draw(clip, faces, (16, 16))
    assert set(np.unique(found.pix_to_face)) == {1}
    np.testing.assert_allclose(found.depth, 2.0, rtol=1e-6)


def test_barycentrics_are_perspective_correct() -> None:
    # A plane that recedes from depth 1 to depth 4: the interpolated 3D point must project back
    # onto the pixel centre that shows it.
    clip = np.array([(-1, -1, 0, 1), (1, -1, 0, 1), (4, 4, 0, 4), (-4, 4, 0, 4)], np.float64)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    found = draw(clip, faces, (32, 32))
    assert found.covered.all()
    shown = np.einsum("hwk,hwkc->hwc", found.barycentrics, clip[faces[found.pix_to_face]])
    steps = (np.arange(32) + 0.5) / 16 - 1
    np.testing.assert_allclose(shown[..., 0] / shown[..., 3], np.tile(steps, (32, 1)), atol=1e-5)
    np.testing.assert_allclose(shown[..., 3], found.depth, rtol=1e-5)
    np.testing.assert_allclose(interpolate(found, faces, clip)[..., 3], found.depth, rtol=1e-5)


def test_nothing_is_minus_one_infinitely_far_with_zero_weights() -> None:
    found = draw(flat([(5, 5), (6, 5), (5, 6)]), [[0, 1, 2]], (4, 4))
    assert (found.pix_to_face == -1).all()
    assert np.isposinf(found.depth).all()
    assert (found.barycentrics == 0).all()
    assert visible_faces(found.pix_to_face).size == 0


def test_a_face_that_reaches_behind_the_camera_is_cut_at_the_near_plane() -> None:
    # A floor at y = -1 from z = +4 behind the camera to 10 in front, fov 90: below the horizon a
    # pixel at NDC height Y sees it at depth -1 / Y.
    corners = np.array([(-50, -1, 4.0), (50, -1, 4.0), (50, -1, -10.0), (-50, -1, -10.0)])
    clip = np.stack([corners[:, 0], corners[:, 1], 0 * corners[:, 0], -corners[:, 2]], axis=1)
    found = draw(clip, [[0, 1, 2], [0, 2, 3]], (64, 64))
    height = 1 - (np.arange(64) + 0.5) / 32
    seen = height < -0.1
    np.testing.assert_array_equal(found.covered, np.tile(seen[:, None], (1, 64)))
    np.testing.assert_allclose(found.depth[seen], np.tile(-1 / height[seen, None], (1, 64)), 1e-4)


def test_a_face_behind_the_near_plane_is_not_drawn() -> None:
    clip = flat([(-1, -1), (1, -1), (0, 1)], NEAR_DEPTH / 2)
    assert not draw(clip, [[0, 1, 2]], (8, 8)).covered.any()
    behind = clip * (1, 1, 1, -1)
    assert not draw(behind, [[0, 1, 2]], (8, 8)).covered.any()


def test_faces_far_outside_the_image_are_cut_without_overflow() -> None:
    clip = flat([(-1e9, -1e9), (1e9, -1e9), (0, 1e9)])
    found = draw(clip, [[0, 1, 2]], (16, 16))
    assert found.covered.all()
    np.testing.assert_allclose(found.barycentrics, [[[0.25, 0.25, 0.5]] * 16] * 16, atol=1e-6)


def test_faces_with_nan_or_without_area_are_skipped() -> None:
    clip = flat([(-1, -1), (1, -1), (0, 1), (np.nan, 0), (0.5, 0.5)])
    faces = np.array([[0, 1, 3], [0, 0, 1], [0, 1, 2]])
    assert set(np.unique(draw(clip, faces, (16, 16)).pix_to_face)) == {-1, 2}


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    vertices, faces = random_mesh(3000)
    clip = Camera(20.0).to_clip(vertices)
    one, five = draw(clip, faces, (97, 61), threads=1), draw(clip, faces, (97, 61), threads=5)
    np.testing.assert_array_equal(one.pix_to_face, five.pix_to_face)
    np.testing.assert_array_equal(one.barycentrics, five.barycentrics)
    np.testing.assert_array_equal(one.depth, five.depth)


def test_read_only_and_strided_arrays_are_accepted() -> None:
    vertices, faces = random_mesh(50)
    clip = Camera(20.0).to_clip(vertices)
    expected = draw(clip, faces, (32, 32))
    strided = np.repeat(clip, 2, axis=0)[::2]
    strided.flags.writeable = False
    found = draw(strided, np.asfortranarray(faces.astype(np.int16)), (32, 32))
    np.testing.assert_array_equal(found.pix_to_face, expected.pix_to_face)


@pytest.mark.parametrize(
    ("clip", "faces", "size"),
    [
        (np.zeros((3, 3)), np.zeros((1, 3), int), (8, 8)),
        (np.zeros((3, 4)), np.zeros((1, 4), int), (8, 8)),
        (np.zeros((3, 4)), np.full((1, 3), 3), (8, 8)),
        (np.zeros((3, 4)), np.full((1, 3), -1), (8, 8)),
        (np.zeros((3, 4)), np.zeros((1, 3), int), (0, 8)),
    ],
)
def test_shapes_that_cannot_be_drawn_are_refused(
    clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"expected|outside"):
        draw(clip, faces, size)


def test_it_agrees_with_pytorch3d() -> None:
    pytest.importorskip("pytorch3d.renderer")
    vertices, faces = random_mesh(1500)
    clip = Camera(30.0, 5.0).to_clip(vertices)
    ours = draw(clip, faces, (128, 128))
    theirs = open_rasterizer("pytorch3d").rasterize(clip, faces, (128, 128))
    same = ours.pix_to_face == theirs.pix_to_face
    assert same.mean() >= 0.999
    assert ours.covered.mean() > 0.3
    assert np.abs(ours.barycentrics - theirs.barycentrics)[same].max() < 1e-4
    both = same & ours.covered
    np.testing.assert_allclose(ours.depth[both], theirs.depth[both], rtol=1e-5)
    assert np.isposinf(theirs.depth[~theirs.covered]).all()


def test_it_reproduces_the_reference_normal_renderers_fragments() -> None:
    golden = np.load(GOLDEN / "isomer_fragments.npz")
    vertices, faces = golden["vertices"], golden["faces"]
    for k, camera in enumerate(bundle_cameras(4.15)):
        found = draw(camera.to_clip(vertices), faces, (96, 96))
        expected = golden["pix_to_face"][k]
        np.testing.assert_array_equal(found.pix_to_face, expected)
        covered = expected >= 0
        weights = golden["barycentrics"][k].astype(np.float64)
        assert np.abs(found.barycentrics - weights)[covered].max() < 1e-3  # stored as float16


def test_it_sees_the_faces_that_the_reference_sees() -> None:
    golden = np.load(GOLDEN / "isomer_projection.npz")
    for k, camera in enumerate(bundle_cameras(4.15)):
        expected = golden["visible_faces_padded"][k]
        expected = expected[expected >= 0]
        shot = draw(camera.to_clip(golden["verts"]), golden["faces"], (128, 128))
        found = visible_faces(shot.pix_to_face)
        # Two near ties of 1500 faces fall the other way in the reference's float32.
        assert len(np.setxor1d(found, expected)) <= 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_rasterizer_that_was_used_before_a_fork_works_after_it() -> None:
    vertices, faces = random_mesh(200)
    clip = Camera(0).to_clip(vertices)
    rasterizer = open_rasterizer("cpu", threads=2)
    expected = int(rasterizer.rasterize(clip, faces, (64, 64)).covered.sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def draw_in_child() -> None:
        queue.put(int(rasterizer.rasterize(clip, faces, (64, 64)).covered.sum()))

    child = context.Process(target=draw_in_child)
    child.start()
    try:
        assert queue.get(timeout=PATIENCE) == expected
    finally:
        child.join(PATIENCE)
        child.kill()


def test_it_works_where_compiled_code_cannot_be_cached() -> None:
    # numba has nowhere to put the code of a function without a file, and says so by raising.
    code = "from stages.geometry.jit import kernel; print(kernel(lambda x: x + 1)(1))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "2", done.stderr


def test_importing_the_interface_loads_neither_numba_nor_torch() -> None:
    code = "import sys, stages.geometry.raster; print({'numba', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_80_000_faces_leave_no_gap() -> None:
    n = 200
    steps = np.linspace(-1, 1, n + 1)
    x, y = np.meshgrid(steps, steps)
    index = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    clip = np.stack([x, y, 0 * x, 1 + 0 * x], axis=-1).reshape(-1, 4)
    assert draw(clip, faces, (512, 512)).covered.all()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Not compiled with GPU support", "gpu_unavailable"),
        ("CUDA error: an illegal memory access was encountered", "gpu_fault"),
        ("CUDA error: no kernel image is available for execution on the device", "gpu_unavailable"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("expected scalar type Float but found Half", "internal"),
    ],
)
def test_a_failure_of_pytorch3d_is_named(text: str, kind: str) -> None:
    error = classify(RuntimeError(text), "pytorch3d", "use the CPU")
    assert error.kind == kind
    assert text in error.message
    assert "CPU" in error.hint


def test_a_missing_pytorch3d_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer.mesh.rasterize_meshes", None)
    with pytest.raises(StageError) as caught:
        open_rasterizer("pytorch3d", "cuda:0")
    assert caught.value.kind == "missing_dependency"


def test_auto_is_ours_in_torch_on_a_card_and_in_numba_without() -> None:
    assert open_rasterizer("auto", "cpu").name == "cpu"
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        assert open_rasterizer("auto", "cuda:0").name == "torch"
    else:
        with pytest.raises(StageError) as caught:
            open_rasterizer("auto", "cuda:0")
        assert caught.value.kind == "gpu_unavailable"
