"""Three shapes whose refinement by the original code is known: its scores beside ours.

    python -m bench.geometry.isomer_cases DIR [--only dog ...] [--runs hull hull-10 soft flat]
        [--objectives reference improved] [--param KEY=VALUE ...] [--device cuda:0]

DIR holds dog.npz, vase.npz and helmet.npz (a perfect bundle, silhouettes, two start meshes, the
truth, the mesh that the original made of the first start) and <name>_ref_10_50.npz and
<name>_ref_soft_0_50.npz (what it made in two other runs).

hull     50 steps of stage 2 from the hull of four silhouettes
hull-10  the same behind 10 steps of stage 1
soft     50 steps of stage 2 from a blurred mesh near the truth
flat     the same with shapes of bench/geometry/shapes.py that have large parts which no view sees;
         what the original makes of them is not known. Says so where a mesh is worse than its start.

Meshes of the original are scored as they were before subdivision: its full ones differ by at most
0.2 dB. The stage runs with its defaults but for the objective.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bench.geometry.cases import Case, shape_case, start_mesh
from bench.geometry.scores import (
    HEADER,
    Scores,
    mean,
    parse_params,
    refine,
    score,
    worse_than_start,
)
from bench.geometry.shapes import FLAT
from orchestrator.system.text import format_table
from stages.contract import Mesh
from stages.evaluation import Views
from stages.geometry.bundle import split
from stages.geometry.cameras import bundle_cameras

NAMES = ("dog", "vase", "helmet")
RADIUS = 4.5
Run = Literal["hull", "hull-10", "soft", "flat"]
STEPS: dict[Run, int] = {"hull": 0, "hull-10": 10, "soft": 0, "flat": 0}
"""Of stage 1."""


@dataclass(frozen=True)
class Known:
    """A case, the mesh to start from, and what the original made of it."""

    case: Case
    start: Mesh
    original: Mesh | None


def read_known(folder: Path, name: str, run: Run) -> Known:
    if run == "flat":
        case = shape_case(name)
        return Known(case, start_mesh(case, "blurred"), None)
    file = {"hull": "", "hull-10": "_ref_10_50", "soft": "_ref_soft_0_50"}[run]
    with np.load(folder / f"{name}.npz") as data:
        rgb, normals = split(data["bundle"].astype(np.float32) / 255.0)
        views = Views(bundle_cameras(RADIUS), data["mask"], normals, rgb)
        start = _mesh(data, "soft" if run == "soft" else "init")
        case = Case(f"{name}, {run}", _mesh(data, "truth"), views, RADIUS)
    with np.load(folder / f"{name}{file}.npz") as data:
        return Known(case, start, _mesh(data, "ref"))


def _mesh(data: Any, key: str) -> Mesh:
    return Mesh(data[f"{key}_vertices"], data[f"{key}_faces"], data.get(f"{key}_colors"))


def measure(
    known: Known, run: Run, objectives: Iterable[str], params: dict[str, Any], device: str
) -> list[Scores]:
    """Of the start, of the original's mesh, and of ours with each objective."""
    meshes = [known.start] if known.original is None else [known.start, known.original]
    scores = [score(known.case, mesh) for mesh in meshes]
    for objective in objectives:
        settings = {"objective": objective, "stage1_steps": STEPS[run], **params}
        scores.append(score(known.case, *refine(known.case, known.start, settings, device)))
    return scores


def rows(name: str, labels: Iterable[str], scores: list[Scores]) -> list[tuple[str, ...]]:
    return [
        found.row(label, scores[0])
        for label, found in zip((name, *(f"  {each}" for each in labels)), scores, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=(*NAMES, *FLAT))
    parser.add_argument("--runs", nargs="+", choices=get_args(Run), default=get_args(Run))
    parser.add_argument(
        "--objectives", nargs="+", choices=("reference", "improved"),
        default=("reference", "improved"),
    )  # fmt: skip
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu", help="of the stage: cpu or cuda:N")
    arguments = parser.parse_args()
    table: list[tuple[str, ...]] = []
    for run in arguments.runs:
        found = []
        every = tuple(FLAT) if run == "flat" else NAMES
        labels = (*(("the original",) if run != "flat" else ()), *arguments.objectives)
        for name in [name for name in every if name in (arguments.only or every)]:
            known = read_known(arguments.folder, name, run)
            params = parse_params(arguments.param)
            found.append(measure(known, run, arguments.objectives, params, arguments.device))
            done = rows(known.case.name, labels, found[-1])
            print(format_table(HEADER, done), file=sys.stderr, flush=True)
            if run in ("soft", "flat") and arguments.objectives[-1] == "improved":
                lost = worse_than_start(name, found[-1][0], found[-1][-1])
                print(lost, file=sys.stderr, end="\n" if lost else "")
            table += done
        if len(found) > 1:
            means = [mean(list(column)) for column in zip(*found, strict=True)]
            table += rows(f"mean, {run}", labels, means)
    print(format_table(HEADER, table))


if __name__ == "__main__":
    main()
