"""What further pictures do for sketch: meshes of one, two and four pictures against the truth.

    python -m bench.geometry.sides [--only NAME ...] [--near]

Each shape of bench/geometry/shapes.py is drawn from its four sides, with alpha, and cropped as the
preprocess stage does it, so that nothing is known of the pictures' scale. By the bundle's own
cameras with --near, else by ones that stand twice as far away and 10 degrees high, as a person with
a telephone does. The pictures go through the stages of profile sketch in this process.

Chamfer L1 as in docs/evaluate.md (boxes normalised, true points that cannot be seen from outside
left out); IoU is the mean overlap of the four outlines of mesh and truth, boxes normalised.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench.geometry.cases import SIZE
from bench.geometry.shapes import FLAT, SHAPES
from devtools.pictures import file_of
from devtools.sided import pictures_of
from orchestrator.pipeline.layers import load
from orchestrator.system.text import format_table
from stages.contract import Context, Mesh, Stage
from stages.contract.registry import stage_class
from stages.evaluation import compare_surfaces, compare_views, normalized, view_mesh
from stages.geometry.camera_rig import BUNDLE_AZIMUTHS, RADIUS
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import open_rasterizer

GIVEN = ((), ("back",), ("left",), ("back", "left"), ("back", "left", "right"))
FAR = tuple(Camera(azimuth, 10.0, 2.0 * RADIUS, 15.0) for azimuth in BUNDLE_AZIMUTHS)


def sketch_stages() -> dict[str, Stage]:
    """The stages of profile sketch by node, loaded."""
    stages = {}
    for name, node in load("sketch", None, [], False).profile.nodes.items():
        kind = stage_class(node.stage)
        stages[name] = kind(kind.Params(**node.params))
        stages[name].load(Context())
    return stages


def sketch(stages: dict[str, Stage], files: dict[str, bytes]) -> Mesh:
    """The mesh of these pictures, by input name."""
    values: dict[str, Any] = dict(files)
    for stage in stages.values():
        values["bundle"] = values.get("reference_bundle")
        wanted = {spec.name for spec in stage.inputs}
        values.update(stage.run({k: v for k, v in values.items() if k in wanted}, Context()))
    mesh: Mesh = values["mesh"]
    return mesh


def scores(mesh: Mesh, truth: Mesh) -> tuple[float, float]:
    """Chamfer distance and mean overlap of outlines."""
    ours, theirs = normalized(mesh), normalized(truth)
    surface = compare_surfaces(ours, theirs, outside_only=True)
    rasterizer = open_rasterizer("cpu")
    half = [
        view_mesh(Mesh(0.8 * m.vertices, m.faces), bundle_cameras(), SIZE, rasterizer)
        for m in (ours, theirs)
    ]
    return surface.chamfer_l1, compare_views(*half).mean_iou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=tuple(FLAT | SHAPES))
    parser.add_argument("--near", action="store_true", help="pictures by the bundle's own cameras")
    arguments = parser.parse_args()
    stages = sketch_stages()
    rows, columns = [], []
    for name in arguments.only or tuple(SHAPES | FLAT):
        truth = (SHAPES | FLAT)[name]()
        pictures = pictures_of(truth, 768, bundle_cameras() if arguments.near else FAR)
        found = []
        for given in GIVEN:
            files = {"input_image": file_of(pictures["front"])}
            files |= {f"input_{side}": file_of(pictures[side]) for side in given}
            found.append(scores(sketch(stages, files), truth))
        columns.append(found)
        rows.append((name, *(f"{chamfer:.4f} {iou:.3f}" for chamfer, iou in found)))
        print("  ".join(rows[-1]), flush=True)
    means = np.mean(np.array(columns), axis=0)
    rows.append(("mean", *(f"{chamfer:.4f} {iou:.3f}" for chamfer, iou in means)))
    header = ("Chamfer, IoU", *("+".join(("front", *given)) for given in GIVEN))
    print(format_table(header, rows))


if __name__ == "__main__":
    main()
