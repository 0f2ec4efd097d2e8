"""The same inputs and seed give the same bits on a card, run after run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from stages.contract import Context, Mesh
from stages.geometry.cameras import BUNDLE_AZIMUTHS
from stages.geometry.raster import RasterizerName, open_rasterizer
from stages.isomer.params import IsomerParams
from stages.isomer.refine.refine import refine
from stages.lrm.prm.render import render_bundle_normals

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CARD = "cuda:0"


def ball(stretch: float, subdivisions: int = 4) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.6)
    vertices = sphere.vertices * [1.0, stretch, 1.0]
    return Mesh(vertices.astype(np.float32), np.asarray(sphere.faces, np.int32))


def tiles(device: str) -> np.ndarray:
    normals, _ = render_bundle_normals(ball(1.2), BUNDLE_AZIMUTHS, size=256, device=device)
    return normals


def test_normal_maps() -> None:
    first, *others = (tiles(CARD) for _ in range(4))
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("rasterizer", ["pytorch3d", "torch"])
def test_refinement(rasterizer: RasterizerName) -> None:
    if rasterizer == "pytorch3d":
        pytest.importorskip("pytorch3d")
    params = IsomerParams(stage2_steps=10, start="mesh", raster_size=256)
    context = Context(device=CARD, seed=1)
    first, second = (
        refine(
            ball(1.0, 3),
            tiles("cpu"),
            params,
            open_rasterizer(rasterizer, CARD),
            context,
            lambda step, note: None,
        )
        for _ in range(2)
    )
    assert np.array_equal(first.faces, second.faces)
    assert np.array_equal(first.vertices, second.vertices)
