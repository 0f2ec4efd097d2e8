"""Views without normals in hull.reference: by their outlines, and by the sketch's network.

    python -m bench.geometry.hulls [--only NAME ...]

The four true views of each shape of bench/geometry/shapes.py, colours alone, go through
hull.reference and hull.reconstruct. Scores as in docs/evaluate.md, tau 0.05, in frame W as they
lie; the ratio is the network's Chamfer distance over that of the outlines.
"""

from __future__ import annotations

import argparse

import numpy as np

from bench.geometry.cases import Case, shape_case
from bench.geometry.shapes import FLAT, SHAPES
from orchestrator.system.text import format_table
from stages.contract import Context
from stages.contract.artifacts import BUNDLE, COARSE_MESH, REFERENCE_BUNDLE, VIEWS
from stages.evaluation import SurfaceScores, compare_surfaces
from stages.lrm.hull.params import HullParams, ReferenceParams
from stages.lrm.hull.stage import HullReconstruct, HullReference

WAYS = ("silhouette", "network")
HEADER = ("shape", "F by outlines", "by network", "Chamfer", "by network", "ratio", "normals", "")


def reconstructed(case: Case, reference: HullReference) -> SurfaceScores:
    assert case.views.rgb is not None
    views = np.rint(case.views.rgb * 255.0).astype(np.uint8)
    bundle = reference.run({VIEWS.name: views}, Context())[REFERENCE_BUNDLE.name]
    stage = HullReconstruct(HullParams())
    mesh = stage.run({BUNDLE.name: bundle}, Context())[COARSE_MESH.name]
    return compare_surfaces(mesh, case.truth, outside_only=True)


def row(name: str, values: np.ndarray) -> tuple[str, ...]:
    """values: F, Chamfer and normals by outlines, then by the network."""
    f, chamfer, normals, network_f, network_chamfer, network_normals = values.tolist()
    return (
        name,
        f"{f:.3f}",
        f"{network_f:.3f}",
        f"{chamfer:.4f}",
        f"{network_chamfer:.4f}",
        f"{network_chamfer / chamfer:.2f}",
        f"{normals:.3f}",
        f"{network_normals:.3f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=tuple(FLAT | SHAPES))
    names = parser.parse_args().only or tuple(SHAPES | FLAT)
    stages = [HullReference(ReferenceParams(normals=way)) for way in WAYS]
    stages[0].load(Context())
    rows, every = [], []
    for name in names:
        case = shape_case(name)
        found = [reconstructed(case, stage) for stage in stages]
        values = [(s.f_score, s.chamfer_l1, s.normal_consistency) for s in found]
        every.append(np.concatenate(values))
        rows.append(row(name, every[-1]))
        print("  ".join(rows[-1]), flush=True)
    rows.append(row("mean", np.mean(every, axis=0)))
    print(format_table(HEADER, rows))


if __name__ == "__main__":
    main()
