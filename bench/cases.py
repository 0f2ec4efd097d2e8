"""What isomer is scored on: perfect bundles, starts and truths, of our shapes or from files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.baselines import carved
from bench.shapes import SHAPES
from stages.common.bundle import join, split
from stages.common.cameras import RADIUS, bundle_cameras
from stages.common.metrics import Views, view_mesh
from stages.common.raster import open_rasterizer
from stages.contract import Mesh
from stages.lrm.hull.params import ReconstructParams
from stages.lrm.hull.reconstruct import reconstruct

SIZE = 512
CASES = ("dog", "vase", "helmet")
CASES_RADIUS = 4.5


@dataclass(frozen=True)
class Case:
    """What isomer is given, and what it should make of it."""

    name: str
    truth: Mesh
    views: Views
    starts: dict[str, Mesh]
    references: dict[str, Mesh]
    radius: float

    @property
    def bundle(self) -> np.ndarray:
        assert self.views.rgb is not None
        return join(self.views.rgb, self.views.normals).astype(np.float32)


def shape_case(name: str, start: str) -> Case:
    truth, cameras = SHAPES[name](), bundle_cameras()
    views = view_mesh(truth, cameras, SIZE, open_rasterizer("cpu"))
    case = Case(name, truth, views, {}, {}, RADIUS)
    if start == "carved":
        mesh = carved(views.mask, cameras)
    else:
        mesh = reconstruct(case.bundle, ReconstructParams(), 2, lambda step, total: None)
    case.starts[start] = mesh
    return case


def file_cases(folder: Path, names: Iterable[str]) -> Iterable[Case]:
    for name in names:
        with np.load(folder / f"{name}.npz") as data:
            rgb, normals = split(data["bundle"].astype(np.float32) / 255.0)
            views = Views(bundle_cameras(CASES_RADIUS), data["mask"], normals, rgb)
            starts = {"hull": _mesh_of(data, "init"), "soft": _mesh_of(data, "soft")}
            references = {"hull": _mesh_of(data, "ref")}
            truth = _mesh_of(data, "truth")
        soft = folder / f"{name}_ref_soft_0_50.npz"
        if soft.is_file():
            with np.load(soft) as data:
                references["soft"] = _mesh_of(data, "ref")
        yield Case(name, truth, views, starts, references, CASES_RADIUS)


def _mesh_of(data: Any, key: str) -> Mesh:
    return Mesh(data[f"{key}_vertices"], data[f"{key}_faces"], data.get(f"{key}_colors"))
