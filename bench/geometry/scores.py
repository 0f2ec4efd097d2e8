"""How good is isomer's mesh in a case whose truth is known? Shared by the quality benches."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import yaml

from bench.geometry.cases import SIZE, Case
from stages.contract import Context, Mesh
from stages.evaluation import compare_surfaces, compare_views, view_mesh
from stages.geometry.raster import open_rasterizer
from stages.isomer.params import IsomerParams
from stages.isomer.stage import Isomer

HEADER = (
    "isomer", "Chamfer", "of start", "F", "normals", "mean IoU", "normal PSNR",
    "rgb PSNR", "faces", "s",
)  # fmt: skip
"""Of a table of `Scores.row`."""

WORSE = 1.1
"""Of the start's Chamfer distance: more is worse than nothing done."""


@dataclass(frozen=True)
class Scores:
    """A mesh' scores in one case; NaN where there is none. PSNR in dB."""

    chamfer: float
    f_score: float
    normals: float
    mean_iou: float
    normal_psnr: float
    rgb_psnr: float
    faces: float
    seconds: float

    def row(self, name: str, start: Scores) -> tuple[str, ...]:
        return (
            name,
            f"{self.chamfer:.4f}",
            f"{self.chamfer / start.chamfer:.2f}",
            f"{self.f_score:.3f}",
            f"{self.normals:.3f}",
            f"{self.mean_iou:.4f}",
            f"{self.normal_psnr:.2f}",
            "" if np.isnan(self.rgb_psnr) else f"{self.rgb_psnr:.2f}",
            f"{self.faces:,.0f}",
            "" if np.isnan(self.seconds) else f"{self.seconds:.1f}",
        )


def refine(
    case: Case, start: Mesh, params: dict[str, Any], device: str = "cpu"
) -> tuple[Mesh, float]:
    """The stage's mesh and the seconds that it took, loading apart. device: "cpu" or "cuda:N"."""
    stage, context = Isomer(IsomerParams(**{"radius": case.radius, **params})), Context(device)
    stage.load(context)
    began = time.perf_counter()
    made: Mesh = stage.run({"bundle": case.bundle, "coarse_mesh": start}, context)["mesh"]
    elapsed = time.perf_counter() - began
    stage.close()
    return made, elapsed


def score(case: Case, mesh: Mesh, seconds: float = float("nan")) -> Scores:
    seen = view_mesh(mesh, case.views.cameras, SIZE, open_rasterizer("cpu"))
    surface = compare_surfaces(mesh, case.truth, outside_only=True)
    views = compare_views(seen, case.views)
    return Scores(
        chamfer=surface.chamfer_l1,
        f_score=surface.f_score,
        normals=surface.normal_consistency,
        mean_iou=views.mean_iou,
        normal_psnr=views.normal_psnr,
        rgb_psnr=float("nan") if views.rgb_psnr is None else views.rgb_psnr,
        faces=len(mesh.faces),
        seconds=seconds,
    )


def worse_than_start(name: str, start: Scores, made: Scores) -> str:
    """What a mesh made from a good start has lost of it; "" if nothing."""
    lost = []
    if made.chamfer > WORSE * start.chamfer:
        lost.append(f"Chamfer {start.chamfer:.4f} -> {made.chamfer:.4f}")
    if made.normal_psnr < start.normal_psnr:
        lost.append(f"normal PSNR {start.normal_psnr:.2f} -> {made.normal_psnr:.2f}")
    return f"{name} is worse than its start: {', '.join(lost)}" if lost else ""


def mean(scores: list[Scores]) -> Scores:
    """Field by field."""
    return Scores(
        *(float(np.mean([getattr(s, field.name) for s in scores])) for field in fields(Scores))
    )


def parse_params(given: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` words of a command line; values as in YAML."""
    params = {}
    for text in given:
        key, _, value = text.partition("=")
        params[key] = yaml.safe_load(value)
    return params
