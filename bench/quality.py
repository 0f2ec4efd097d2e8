"""Meshes of ours against true ones: sketch from one picture, isomer from four perfect views.

    python bench/quality.py [--quick] [--only NAME ...] [--tables sketch isomer cases]
        [--start carved|reconstruct] [--cases DIR] [--param KEY=VALUE ...]

sketch   Each shape of bench/shapes.py is rendered from the front with alpha, the pictures go
         through `kiss3d-orchestrate batch`, and the meshes are scored beside two baselines made
         from the same silhouette: its flat extrusion and the ellipsoid of its moments. Boxes are
         normalised, because a picture tells no scale.
isomer   Given the true bundle of each shape and a start mesh (`--start carved`: the hull of the
         four silhouettes; `--start reconstruct`: hull.reconstruct's), scores before and after the
         stage, in frame W as they lie. `--param` sets a param of the stage.
cases    DIR holds dog.npz, vase.npz, helmet.npz: a bundle, silhouettes, two start meshes, the
         truth, and the mesh that the reference made of the first start.

Chamfer L1 and F-score as in docs/evaluate.md, tau 0.05, 30,000 points, true points that cannot be
seen from outside left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import yaml
from PIL import Image

from bench.baselines import ellipsoid, extrusion
from bench.cases import CASES, SIZE, Case, file_cases, shape_case
from bench.shapes import SHAPES
from orchestrator.report import format_table
from orchestrator.warm import child_environment
from stages.common.cameras import bundle_cameras
from stages.common.foreign import read_any
from stages.common.metrics import (
    SurfaceScores,
    compare_surfaces,
    compare_views,
    normalized,
    view_mesh,
)
from stages.common.raster import interpolate, open_rasterizer
from stages.common.render import coverage, look, resolve
from stages.common.specs import MESH
from stages.contract import Context, Mesh
from stages.isomer.params import IsomerParams
from stages.isomer.stage import Isomer

QUICK = ("box", "teapot", "animal")
PICTURE_SAMPLES = 3
R = TypeVar("R", SurfaceScores, "Result")


def front_picture(mesh: Mesh, size: int = 768) -> Image.Image:
    """The front camera's picture with alpha; colours at the outline are those of the object."""
    assert mesh.colors is not None
    camera = bundle_cameras()[0]
    seen = look(mesh.vertices, mesh.faces, camera, size, PICTURE_SAMPLES, open_rasterizer("cpu"))
    share = coverage(seen, PICTURE_SAMPLES)[..., None]
    colors = interpolate(seen, mesh.faces, mesh.colors / 255.0)
    rgb = resolve(colors, seen, PICTURE_SAMPLES, background=0.0) / np.maximum(share, 1e-6)
    pixels = np.rint(np.concatenate([np.minimum(rgb, 1.0), share], axis=2) * 255.0)
    return Image.fromarray(pixels.astype(np.uint8))


def sketches(pictures: dict[str, Image.Image], folder: Path) -> dict[str, Mesh]:
    """Through the real command line, one batch. A picture that failed is missing."""
    (folder / "in").mkdir()
    for name, picture in pictures.items():
        picture.save(folder / "in" / f"{name}.png")
    words = ["batch", folder / "in", "--output", folder / "out", "--profile", "sketch", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *map(str, words)],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if not done.stdout:
        sys.exit(f"the batch did not start (exit code {done.returncode})")
    meshes = {}
    for job in json.loads(done.stdout)["jobs"]:
        if job["mesh"]:
            meshes[Path(job["input"]).stem] = read_any(MESH, Path(job["mesh"]))
        else:
            print(f"{job['input']}: {job['error']}", file=sys.stderr)
    return meshes


def sketch_table(names: Iterable[str]) -> str:
    truths = {name: SHAPES[name]() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        pictures = {name: front_picture(truth) for name, truth in truths.items()}
        made = sketches(pictures, Path(folder))
    camera = bundle_cameras()[0]
    columns: list[list[SurfaceScores]] = []
    rows = []
    for name, mesh in made.items():
        mask = np.asarray(pictures[name])[..., 3] > 127
        scores = [
            compare_surfaces(normalized(m), normalized(truths[name]), outside_only=True)
            for m in (mesh, extrusion(mask, camera), ellipsoid(mask, camera))
        ]
        columns.append(scores)
        rows.append(_sketch_row(name, scores))
    rows.append(_sketch_row("mean", [_mean(list(s)) for s in zip(*columns, strict=True)]))
    header = (
        "sketch", "Chamfer", "of extrusion", "of ellipsoid", "ratio", "ratio",
        "F", "of extrusion", "of ellipsoid", "normals",
    )  # fmt: skip
    return format_table(header, rows)


def _sketch_row(name: str, scores: list[SurfaceScores]) -> tuple[str, ...]:
    ours, *others = scores
    return (
        name,
        *(f"{s.chamfer_l1:.4f}" for s in scores),
        *(f"{ours.chamfer_l1 / s.chamfer_l1:.2f}" for s in others),
        *(f"{s.f_score:.3f}" for s in scores),
        f"{ours.normal_consistency:.3f}",
    )


def refine(case: Case, start: Mesh, params: dict[str, Any]) -> tuple[Mesh, float]:
    """The stage's mesh and the seconds that it took, loading apart."""
    stage, context = Isomer(IsomerParams(**{"radius": case.radius, **params})), Context()
    stage.load(context)
    began = time.perf_counter()
    made: Mesh = stage.run({"bundle": case.bundle, "coarse_mesh": start}, context)["mesh"]
    elapsed = time.perf_counter() - began
    stage.close()
    return made, elapsed


@dataclass(frozen=True)
class Result:
    """A mesh' scores in one case; NaN where there is none."""

    chamfer: float
    f_score: float
    normals: float
    mean_iou: float
    normal_psnr: float
    rgb_psnr: float
    faces: float
    seconds: float

    def row(self, name: str, start: Result) -> tuple[str, ...]:
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


def isomer_table(cases: Iterable[Case], params: dict[str, Any]) -> str:
    rows = []
    kept: dict[str, list[tuple[Result, ...]]] = {}
    for case in cases:
        for start, mesh in case.starts.items():
            results = [_result(case, mesh)]
            if start in case.references:
                results.append(_result(case, case.references[start]))
            results.append(_result(case, *refine(case, mesh, params)))
            rows += _rows(f"{case.name}, {start}", results)
            kept.setdefault(start, []).append(tuple(results))
            print("  ".join(rows[-1]), f" ({case.name}, {start})", file=sys.stderr, flush=True)
    for start, found in kept.items():
        if len(found) == 1:
            continue
        rows += _rows(
            f"mean, {start}", [_mean(list(column)) for column in zip(*found, strict=True)]
        )
    header = (
        "isomer", "Chamfer", "of start", "F", "normals", "mean IoU", "normal PSNR",
        "rgb PSNR", "faces", "s",
    )  # fmt: skip
    return format_table(header, rows)


def _rows(name: str, results: list[Result]) -> list[tuple[str, ...]]:
    labels = [name, "  reference", "  isomer"] if len(results) == 3 else [name, "  isomer"]
    return [found.row(label, results[0]) for label, found in zip(labels, results, strict=True)]


def _result(case: Case, mesh: Mesh, seconds: float = float("nan")) -> Result:
    seen = view_mesh(mesh, case.views.cameras, SIZE, open_rasterizer("cpu"))
    surface = compare_surfaces(mesh, case.truth, outside_only=True)
    views = compare_views(seen, case.views)
    return Result(
        chamfer=surface.chamfer_l1,
        f_score=surface.f_score,
        normals=surface.normal_consistency,
        mean_iou=views.mean_iou,
        normal_psnr=views.normal_psnr,
        rgb_psnr=float("nan") if views.rgb_psnr is None else views.rgb_psnr,
        faces=len(mesh.faces),
        seconds=seconds,
    )


def _mean(results: list[R]) -> R:
    """Field by field, of dataclasses that hold numbers."""
    names = [field.name for field in fields(results[0])]
    return type(results[0])(*(float(np.mean([getattr(r, n) for r in results])) for n in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=(*SHAPES, *CASES))
    parser.add_argument("--tables", nargs="+", choices=("sketch", "isomer", "cases"))
    parser.add_argument("--start", choices=("carved", "reconstruct"), default="carved")
    parser.add_argument("--cases", type=Path, metavar="DIR")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    chosen = arguments.only or (*(QUICK if arguments.quick else SHAPES), *CASES)
    names = [name for name in chosen if name in SHAPES]
    given = [name for name in chosen if name in CASES]
    wanted = arguments.tables or ("sketch", "isomer", "cases")
    params = {}
    for text in arguments.param:
        key, _, value = text.partition("=")
        params[key] = yaml.safe_load(value)
    if "sketch" in wanted and names:
        print(sketch_table(names), end="\n\n", flush=True)
    if "isomer" in wanted and names:
        cases = (shape_case(name, arguments.start) for name in names)
        print(isomer_table(cases, params), end="\n\n", flush=True)
    if "cases" in wanted and given and arguments.cases:
        print(isomer_table(file_cases(arguments.cases, given), params))


if __name__ == "__main__":
    main()
