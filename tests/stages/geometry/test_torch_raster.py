"""The rasteriser in plain torch gives what the CPU backend gives, whatever it is asked to draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stages.contract import StageError
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import Fragments, open_rasterizer, torch_raster
from stages.geometry.raster.torch_raster import TorchRasterizer
from stages.geometry.threads import in_threads

Scene = tuple[np.ndarray, np.ndarray]


def bumpy_grid(steps: int = 100) -> Scene:
    """20,000 faces that share their sides and hide one another."""
    t = np.linspace(-0.9, 0.9, steps + 1)
    x, y = np.meshgrid(t, t)
    z = 0.4 * np.sin(9.0 * x) * np.cos(7.0 * y)
    index = np.arange(x.size).reshape(x.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(k, -1).reshape(-1, 3) for k in ((a, b, c), (a, c, d))])
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    return Camera(50.0, 20.0).to_clip(points), faces


def soup() -> Scene:
    """Faces of all sizes that pierce one another, wound both ways."""
    rng = np.random.default_rng(4)
    corners = rng.uniform(-0.9, 0.9, (1500, 1, 3)) + rng.normal(0, 0.15, (1500, 3, 3))
    return Camera(30.0, 5.0).to_clip(corners.reshape(-1, 3)), np.arange(4500).reshape(-1, 3)


def floor_that_reaches_behind_the_camera() -> Scene:
    corners = np.array([(-50, -1, 4.0), (50, -1, 4.0), (50, -1, -10.0), (-50, -1, -10.0)])
    clip = np.stack([corners[:, 0], corners[:, 1], 0 * corners[:, 0], -corners[:, 2]], axis=1)
    return clip, np.array([[0, 1, 2], [0, 2, 3]])


def face_far_beyond_the_image() -> Scene:
    clip = np.array([(-1e9, -1e9, 0, 1), (1e9, -1e9, 0, 1), (0, 1e9, 0, 1)])
    return clip, np.array([[0, 1, 2]])


def corners_and_sides_on_pixel_centres() -> Scene:
    rng = np.random.default_rng(3)
    points = (rng.integers(0, 40, (900, 2)) + 0.5) / 20.0 - 1.0
    depth = rng.integers(1, 4, (300, 1)).repeat(3, axis=1).reshape(-1, 1)
    clip = np.concatenate([points * depth, 0 * depth, depth], axis=1).astype(np.float64)
    return clip, np.arange(900).reshape(-1, 3)


def nothing() -> Scene:
    return np.zeros((3, 4)), np.zeros((0, 3), np.int32)


def faces_that_cannot_be_drawn() -> Scene:
    clip = np.array([(-1, -1, 0, 1), (1, -1, 0, 1), (0, 1, 0, 1), (np.nan, 0, 0, 1)], np.float64)
    return clip, np.array([[0, 1, 3], [0, 0, 1], [0, 1, 2]])


SCENES = [
    bumpy_grid,
    soup,
    floor_that_reaches_behind_the_camera,
    face_far_beyond_the_image,
    corners_and_sides_on_pixel_centres,
    nothing,
    faces_that_cannot_be_drawn,
]


def assert_alike(found: Fragments, expected: Fragments, share: float = 0.999) -> None:
    same = found.pix_to_face == expected.pix_to_face
    assert same.mean() >= share
    np.testing.assert_array_equal(found.covered, expected.covered)
    np.testing.assert_allclose(found.barycentrics[same], expected.barycentrics[same], atol=1e-6)
    np.testing.assert_allclose(found.depth[same], expected.depth[same], rtol=1e-6)
    for ours, theirs in zip(vars(found).values(), vars(expected).values(), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("size", [(96, 96), (61, 133)], ids=["square", "wide"])
def test_it_draws_what_the_cpu_backend_draws(
    scene: Callable[[], Scene], size: tuple[int, int]
) -> None:
    clip, faces = scene()
    expected = open_rasterizer("cpu").rasterize(clip, faces, size)
    assert_alike(open_rasterizer("torch").rasterize(clip, faces, size), expected)


def test_pairs_are_looked_at_in_chunks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, faces = soup()
    expected = open_rasterizer("cpu").rasterize(clip, faces, (64, 64))
    sizes = []
    compete = torch_raster._compete

    def counted(best: torch.Tensor, pair: torch.Tensor, *others: Any) -> None:
        sizes.append(len(pair))
        compete(best, pair, *others)

    monkeypatch.setattr(torch_raster, "_compete", counted)
    monkeypatch.setattr(torch_raster, "CHUNK", 997)
    assert_alike(TorchRasterizer("cpu").rasterize(clip, faces, (64, 64)), expected)
    assert len(sizes) > 10
    assert max(sizes) == 997


def test_pictures_that_threads_ask_for_are_drawn_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip, faces = soup()
    backend, drawing, most = TorchRasterizer("cpu"), [0], [0]
    draw = torch_raster._draw

    def counted(*arguments: Any) -> torch.Tensor:
        drawing[0] += 1
        most[0] = max(most[0], drawing[0])
        time.sleep(0.02)
        drawing[0] -= 1
        return draw(*arguments)

    monkeypatch.setattr(torch_raster, "_draw", counted)
    expected = open_rasterizer("cpu").rasterize(clip, faces, (64, 64))
    for found in in_threads(lambda _: backend.rasterize(clip, faces, (64, 64)), range(4), 4):
        assert_alike(found, expected)
    assert most == [1]


def test_at_equal_depth_the_lower_face_wins_whatever_the_order() -> None:
    clip = np.array([(-1, -1, 0, 1), (1, -1, 0, 1), (0, 1, 0, 1)], np.float64)
    faces = np.array([[1, 2, 0], [0, 1, 2], [2, 1, 0]])
    found = TorchRasterizer("cpu").rasterize(clip, faces, (16, 16))
    assert set(np.unique(found.pix_to_face)) == {-1, 0}


def test_every_view_of_a_bundle_is_the_same_pixel_for_pixel() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    points *= 0.8 / np.linalg.norm(points, axis=1, keepdims=True)
    from scipy.spatial import ConvexHull

    faces = ConvexHull(points).simplices
    for camera in bundle_cameras():
        clip = camera.to_clip(points)
        expected = open_rasterizer("cpu").rasterize(clip, faces, (128, 128))
        assert_alike(TorchRasterizer("cpu").rasterize(clip, faces, (128, 128)), expected, 1.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_without_a_card_its_absence_is_named() -> None:
    with pytest.raises(StageError, match="no CUDA device") as caught:
        open_rasterizer("torch", "cuda:0")
    assert caught.value.kind == "gpu_unavailable"


def test_a_fault_of_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch_raster, "_resolve", broken)
    with pytest.raises(StageError, match="illegal memory access") as caught:
        TorchRasterizer("cpu").rasterize(*soup(), (16, 16))
    assert caught.value.kind == "gpu_fault"
    assert "CPU" in caught.value.hint
