"""Meshes of ours against true ones: sketch from one picture, isomer from four perfect views.

    python -m bench.geometry.quality [--quick] [--only NAME ...] [--tables sketch isomer]
        [--turned DEGREES] [--raised DEGREES] [--start carved|reconstruct|blurred]
        [--param KEY=VALUE ...] [--device cuda:0] [--meshes FILE ... [--up z]]

sketch   Each shape of bench/geometry/shapes.py is rendered from the front with alpha, the pictures
         go through `kiss3d-orchestrate batch`, and the meshes are scored beside three baselines:
         the same with `multiview.shape=silhouette`, which leaves out the network; the silhouette's
         flat extrusion; the ellipsoid of its moments. Boxes are normalised, because a picture tells
         no scale. `--turned 40` turns the shapes to the right first: three-quarter views; `--raised
         28` takes the pictures from so far above. `--meshes` takes meshes of one's own instead of
         the shapes, grey and lit from above.
isomer   Given the true bundle of each shape and a start mesh (`--start carved`: the hull of the
         four silhouettes; `--start reconstruct`: hull.reconstruct's; `--start blurred`: the truth,
         blurred, also of shapes with large flat parts that no view sees), scores before and after
         the stage, in frame W as they lie. `--param` sets a param of the stage.

Chamfer L1 and F-score as in docs/evaluate.md, tau 0.05, 30,000 points, true points that cannot be
seen from outside left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.geometry.baselines import ellipsoid, extrusion
from bench.geometry.cases import shape_case, start_mesh
from bench.geometry.scores import HEADER, mean, parse_params, refine, score, worse_than_start
from bench.geometry.shapes import FLAT, LONGEST_SIDE, SHAPES
from orchestrator.processes.environment import child_environment
from orchestrator.system.text import format_table
from stages.contract import Mesh
from stages.contract.artifacts import MESH
from stages.contract.user_files import read_any
from stages.evaluation import SurfaceScores, compare_surfaces, normalized
from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import coverage, look, resolve, vertex_normals

STARTS = ("carved", "reconstruct", "blurred")
QUICK = ("box", "teapot", "animal")
PICTURE_SAMPLES = 3
LIGHT = np.array([0.4, 0.75, 0.53])
"""Where it comes from, for meshes without colours."""


def front_picture(mesh: Mesh, size: int = 768, camera: Camera | None = None) -> Image.Image:
    """A picture with alpha, by the bundle's front camera if no other is given; colours at the
    outline are those of the object."""
    assert mesh.colors is not None
    camera = camera or bundle_cameras()[0]
    seen = look(mesh.vertices, mesh.faces, camera, size, PICTURE_SAMPLES, open_rasterizer("cpu"))
    share = coverage(seen, PICTURE_SAMPLES)[..., None]
    colors = interpolate(seen, mesh.faces, mesh.colors / 255.0)
    rgb = resolve(colors, seen, PICTURE_SAMPLES, background=0.0) / np.maximum(share, 1e-6)
    pixels = np.rint(np.concatenate([np.minimum(rgb, 1.0), share], axis=2) * 255.0)
    return Image.fromarray(pixels.astype(np.uint8))


def turned(mesh: Mesh, degrees: float) -> Mesh:
    """Turned about the vertical, as large as before along its longest side, in the middle."""
    if not degrees:
        return mesh
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    made = normalized(Mesh(mesh.vertices @ turn.T.astype(np.float32), mesh.faces, mesh.colors))
    return Mesh(made.vertices * np.float32(LONGEST_SIDE / 2.0), made.faces, made.colors)


def sketches(
    pictures: dict[str, Image.Image], folder: Path, settings: tuple[str, ...] = ()
) -> dict[str, Mesh]:
    """Through the real command line, one batch. A picture that failed is missing.

    settings  values of --set
    """
    (folder / "in").mkdir(parents=True)
    for name, picture in pictures.items():
        picture.save(folder / "in" / f"{name}.png")
    words = ["batch", folder / "in", "--output", folder / "out", "--profile", "sketch", "--json"]
    words += [word for setting in settings for word in ("--set", setting)]
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


def given_mesh(path: Path, up: str) -> Mesh:
    """A mesh of a file, grey, as large as the shapes."""
    mesh = normalized(read_any(MESH, path))
    vertices = mesh.vertices * np.float32(LONGEST_SIDE / 2.0)
    if up == "z":
        vertices = vertices @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
    light = np.maximum(vertex_normals(vertices, mesh.faces) @ LIGHT, 0.0)[:, None]
    grey = np.rint(110.0 + 110.0 * light).astype(np.uint8).repeat(3, axis=1)
    return Mesh(vertices, mesh.faces, grey)


def sketch_table(shapes: Mapping[str, Mesh], degrees: float, elevation: float) -> str:
    truths = {name: turned(shape, degrees) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        pictures = {
            name: front_picture(truth, camera=Camera(0.0, elevation))
            for name, truth in truths.items()
        }
        made = sketches(pictures, Path(folder) / "network")
        plain = sketches(pictures, Path(folder) / "silhouette", ("multiview.shape=silhouette",))
    camera = bundle_cameras()[0]
    columns: list[list[SurfaceScores]] = []
    rows = []
    for name in (name for name in made if name in plain):
        mask = np.asarray(pictures[name])[..., 3] > 127
        scores = [
            compare_surfaces(normalized(m), normalized(truths[name]), outside_only=True)
            for m in (made[name], plain[name], extrusion(mask, camera), ellipsoid(mask, camera))
        ]
        columns.append(scores)
        rows.append(_sketch_row(name, scores))
    rows.append(_sketch_row("mean", [_mean(list(s)) for s in zip(*columns, strict=True)]))
    header = (
        "sketch", "Chamfer", "of silhouette", "of extrusion", "of ellipsoid", "ratio", "ratio",
        "ratio", "F", "of silhouette", "of extrusion", "of ellipsoid", "normals", "of silhouette",
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
        f"{others[0].normal_consistency:.3f}",
    )


def isomer_table(names: Iterable[str], start: str, params: dict[str, Any], device: str) -> str:
    rows = []
    found = []
    for name in names:
        case = shape_case(name)
        mesh = start_mesh(case, start)
        before, after = score(case, mesh), score(case, *refine(case, mesh, params, device))
        found.append((before, after))
        rows += [before.row(name, before), after.row("  isomer", before)]
        print("  ".join(rows[-1]), f" ({name})", file=sys.stderr, flush=True)
        if start == "blurred" and (lost := worse_than_start(name, before, after)):
            print(lost, file=sys.stderr, flush=True)
    before, after = (mean(list(column)) for column in zip(*found, strict=True))
    rows += [before.row("mean", before), after.row("  isomer", before)]
    return format_table(HEADER, rows)


def _mean(scores: list[SurfaceScores]) -> SurfaceScores:
    names = [field.name for field in fields(SurfaceScores)]
    return SurfaceScores(*(float(np.mean([getattr(s, n) for s in scores])) for n in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=tuple(FLAT | SHAPES))
    parser.add_argument(
        "--tables", nargs="+", choices=("sketch", "isomer"), default=("sketch", "isomer")
    )
    parser.add_argument("--raised", type=float, default=BUNDLE_ELEVATION, metavar="DEGREES")
    parser.add_argument("--turned", type=float, default=0.0, metavar="DEGREES")
    parser.add_argument("--meshes", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--up", choices=("y", "z"), default="y", help="in those files")
    parser.add_argument("--start", choices=STARTS, default="carved")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu", help="of the isomer stage: cpu or cuda:N")
    arguments = parser.parse_args()
    for path in arguments.meshes or ():
        if not path.is_file():
            parser.error(f"--meshes: there is no file {path}")
    every = tuple(FLAT | SHAPES) if arguments.start == "blurred" else tuple(SHAPES)
    names = arguments.only or (QUICK if arguments.quick else every)
    if "sketch" in arguments.tables:
        shapes = {name: (FLAT | SHAPES)[name]() for name in names}
        if arguments.meshes:
            shapes = {path.stem: given_mesh(path, arguments.up) for path in arguments.meshes}
        print(sketch_table(shapes, arguments.turned, arguments.raised), end="\n\n", flush=True)
    if "isomer" in arguments.tables:
        print(isomer_table(names, arguments.start, parse_params(arguments.param), arguments.device))


if __name__ == "__main__":
    main()
