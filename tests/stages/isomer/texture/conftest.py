"""A ball with a painted pattern, its perfect bundle, and what the stage makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from devtools.solids import ball, tiles
from stages.contract import Context, Mesh
from stages.geometry.bundle import join
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import look, resolve
from stages.isomer.params import IsomerParams
from stages.isomer.stage import Isomer

SIZE = 256


def paint(points: np.ndarray) -> np.ndarray:
    """Colour (N, 3) in [0, 1] at points of frame W: soft stripes, narrower than a face below."""
    waves = np.sin(points * (28.0, 33.0, 30.0))
    return 0.45 + 0.3 * waves * (1.0, 0.8, 0.9)


def pictures(mesh: Mesh, size: int = SIZE, samples: int = 3) -> np.ndarray:
    """(4, size, size, 3) of the pattern on a mesh, as the bundle's cameras see it, on white."""
    seen = []
    for camera in bundle_cameras():
        fragments = look(mesh.vertices, mesh.faces, camera, size, samples, open_rasterizer("cpu"))
        points = interpolate(fragments, mesh.faces, mesh.vertices)
        seen.append(resolve(paint(points).astype(np.float32), fragments, samples))
    return np.stack(seen)


@pytest.fixture(scope="session")
def painted_ball() -> Mesh:
    return ball()


@pytest.fixture(scope="session")
def painted_bundle(painted_ball: Mesh) -> np.ndarray:
    return join(pictures(painted_ball), tiles(painted_ball, SIZE)[0]).astype(np.float32)


Make = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture(scope="session")
def make(painted_ball: Mesh, painted_bundle: np.ndarray) -> Make:
    """make(**params) -> the stage's outputs, and what it called degraded."""

    def run(**params: Any) -> tuple[dict[str, Any], list[str]]:
        told: list[str] = []

        def warn(text: str, *, degraded: bool = False) -> None:
            if degraded:
                told.append(text)

        settings = {"stage2_steps": 0, "render_size": 64, "texture_size": 1024, **params}
        stage, context = Isomer(IsomerParams(**settings)), Context(warn=warn)
        stage.load(context)
        inputs = {"bundle": painted_bundle, "coarse_mesh": painted_ball}
        return dict(stage.run(inputs, context)), told

    return run


@pytest.fixture(scope="session")
def textured(make: Make) -> dict[str, Any]:
    """With fewer faces than the stripes would need at vertices, and a normal map."""
    outputs, told = make(texture_faces=2000, normal_map=True)
    assert not told
    return outputs
