"""What isomer is scored on: a true mesh, its perfect bundle, and meshes to start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.geometry.baselines import carved
from bench.geometry.blurred import blurred
from bench.geometry.shapes import FLAT, SHAPES
from stages.contract import Mesh
from stages.evaluation import Views, view_mesh
from stages.geometry.bundle import join
from stages.geometry.camera_rig import RADIUS
from stages.geometry.cameras import bundle_cameras
from stages.geometry.normal_fusion.params import ReconstructParams
from stages.geometry.normal_fusion.reconstruct import reconstruct
from stages.geometry.raster import open_rasterizer

SIZE = 512


@dataclass(frozen=True)
class Case:
    """What isomer is given besides a start, and what it should make of it.

    radius  distance of the cameras
    """

    name: str
    truth: Mesh
    views: Views
    radius: float

    @property
    def bundle(self) -> np.ndarray:
        assert self.views.rgb is not None
        return join(self.views.rgb, self.views.normals).astype(np.float32)


def shape_case(name: str) -> Case:
    """A shape of bench/geometry/shapes.py."""
    truth = (SHAPES | FLAT)[name]()
    views = view_mesh(truth, bundle_cameras(), SIZE, open_rasterizer("cpu"))
    return Case(name, truth, views, RADIUS)


def start_mesh(case: Case, kind: str) -> Mesh:
    """carved: the hull of the four silhouettes; reconstruct: hull.reconstruct's; blurred: the truth
    as voxels, blurred."""
    if kind == "blurred":
        return blurred(case.truth)
    if kind == "carved":
        return carved(case.views.mask, case.views.cameras)
    return reconstruct(case.bundle, ReconstructParams(), 2, lambda step, total: None)
