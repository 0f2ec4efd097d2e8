"""What all views see of a mesh, drawn on the device that the mesh is on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.contract import StageError
from stages.geometry.cameras import bundle_cameras
from stages.geometry.diffrender.views import Views
from stages.geometry.raster import Fragments, TensorRasterizer, open_rasterizer
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.raster.torch_raster import TorchRasterizer
from stages.geometry.threads import in_threads

SIZE = 96


def soup() -> tuple[torch.Tensor, torch.Tensor]:
    """Faces of all sizes that pierce one another, wound both ways."""
    rng = np.random.default_rng(4)
    corners = rng.uniform(-0.7, 0.7, (1500, 1, 3)) + rng.normal(0, 0.1, (1500, 3, 3))
    points = torch.tensor(corners.reshape(-1, 3), dtype=torch.float32)
    return points, torch.arange(4500).reshape(-1, 3)


def views(rasterizer: object) -> Views:
    return Views(bundle_cameras(), SIZE, rasterizer, "cpu")  # type: ignore[arg-type]


class OneByOne:
    """The CPU backend as one that draws from arrays alone."""

    name = "cpu"

    def __init__(self) -> None:
        self.rasterize = CpuRasterizer().rasterize


def refuse(clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
    raise AssertionError("a mesh of tensors was drawn from arrays")


@pytest.mark.parametrize("backend", [TorchRasterizer("cpu"), CpuRasterizer(1), CpuRasterizer(3)])
def test_all_views_drawn_at_once_show_what_is_drawn_one_by_one(
    backend: TensorRasterizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, faces = soup()
    assert not isinstance(OneByOne(), TensorRasterizer)
    expected = views(OneByOne()).look(points, faces)
    monkeypatch.setattr(backend, "rasterize", refuse)
    found = views(backend).look(points, faces)
    assert torch.equal(found.face >= 0, expected.face >= 0)
    same = found.face == expected.face
    assert same.float().mean() > 0.999
    assert torch.allclose(found.depth[same], expected.depth[same], rtol=1e-5)


def test_a_mesh_that_reaches_behind_a_camera_is_cut_as_ever() -> None:
    points, faces = soup()
    points[0] = torch.tensor([0.0, 0.0, 9.0])
    backend = TorchRasterizer("cpu")
    clip = views(backend).to_clip(points).double()
    assert backend.draw(clip, faces, SIZE) is None
    expected = views(open_rasterizer("cpu")).look(points, faces)
    found = views(backend).look(points, faces)
    assert torch.equal(found.face >= 0, expected.face >= 0)


@pytest.mark.parametrize("backend", [TorchRasterizer("cpu"), CpuRasterizer()])
def test_vertices_that_are_no_numbers_are_not_drawn(backend: TensorRasterizer) -> None:
    points, faces = soup()
    expected = views(open_rasterizer("cpu")).look(points, faces[1:])
    points[0] = torch.nan
    found = views(backend).look(points, faces)
    assert torch.equal(found.face >= 0, expected.face >= 0)


def test_a_device_that_runs_out_of_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("stages.geometry.raster.torch_raster._of_device", fails)
    with pytest.raises(StageError) as caught:
        views(TorchRasterizer("cpu")).look(*soup())
    assert caught.value.kind == "out_of_memory"


@pytest.mark.parametrize("threads", [1, 3])
def test_work_in_threads_comes_back_in_order_and_with_its_error(threads: int) -> None:
    assert in_threads(lambda k: k * k, range(7), threads) == [k * k for k in range(7)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda k: 1 // k, [1, 0, 2], threads)
