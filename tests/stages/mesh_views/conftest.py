"""The stage on small tiles, with what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from stages.contract import Context, Mesh
from stages.geometry.bundle import split
from stages.mesh_views.params import MeshViewsParams
from stages.mesh_views.stage import MeshViews

SIZE = 64


@dataclass(frozen=True)
class Looked:
    """What came of a mesh."""

    outputs: dict[str, Any]
    said: list[str]
    degraded: list[str]

    @property
    def tiles(self) -> tuple[np.ndarray, np.ndarray]:
        """Colours and normals, (4, S, S, 3) each."""
        return split(self.outputs["reference_bundle"])

    @property
    def mesh(self) -> Mesh:
        mesh: Mesh = self.outputs["given_mesh"]
        return mesh

    def centers(self) -> np.ndarray:
        """(4, 3) uint8 sRGB in the middle of the views."""
        middle = self.outputs["reference_bundle"].shape[0] // 4
        colors: np.ndarray = np.rint(self.tiles[0][:, middle, middle] * 255.0).astype(np.uint8)
        return colors


@pytest.fixture
def look() -> Callable[..., Looked]:
    """look(data, **params): runs the stage, and holds its outputs to their promises."""

    def run(data: bytes, **params: Any) -> Looked:
        stage = MeshViews(MeshViewsParams.model_validate({"size": SIZE, **params}))
        said: list[str] = []
        degraded: list[str] = []

        def warn(text: str, **flags: bool) -> None:
            (degraded if flags.get("degraded") else said).append(text)

        context = Context(threads=1, warn=warn)
        stage.load(context)
        outputs = dict(stage.run({"input_mesh": data}, context))
        for spec in stage.outputs:
            if spec.name in outputs:
                spec.check(outputs[spec.name])
            else:
                assert spec.optional
        return Looked(outputs, said, degraded)

    return run
