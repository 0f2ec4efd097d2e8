"""Score one mesh file against another, in a process of its own (`kiss3d-orchestrate evaluate`).

    python -m stages.evaluation MESH TRUTH [--tau T] [--samples N] [--seed N] [--normalize]

Prints one JSON object: `scores`, and `faces` of either mesh; or `error` and `hint` with exit
status 2 if a file cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.contract import ArtifactSpec, BadInput, Mesh
from stages.contract.user_files import read_any
from stages.evaluation import compare_surfaces, normalized, sample_surface


def evaluate(
    mesh_file: Path,
    truth_file: Path,
    tau: float,
    samples: int,
    seed: int,
    normalize: bool,
    outside_only: bool,
) -> dict[str, Any]:
    """See `compare_surfaces`. Raises BadInput for a file that holds no mesh with a surface."""
    mesh, truth = (_read(file, normalize) for file in (mesh_file, truth_file))
    counts = {"mesh": len(mesh.faces), "truth": len(truth.faces)}
    try:
        scores = compare_surfaces(mesh, truth, tau, samples, seed, outside_only)
    except ValueError as error:
        raise BadInput(f"{mesh_file} against {truth_file}: {error}") from error
    return {"scores": asdict(scores), "faces": counts}


def _read(path: Path, normalize: bool) -> Mesh:
    """The mesh of a file, normalized if asked for. Raises BadInput, which names the file."""
    mesh: Mesh = read_any(ArtifactSpec("mesh", "mesh", "a mesh to score"), path)
    try:
        mesh = normalized(mesh) if normalize else mesh
        sample_surface(mesh.vertices, mesh.faces, 1, 0)  # whether it has an area
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error
    return mesh


def main() -> int:
    parser = argparse.ArgumentParser(prog="stages.evaluation")
    parser.add_argument("mesh", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--tau", type=float, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--normalize", action="store_true")
    parser.add_argument("--outside-only", action="store_true")
    options = parser.parse_args()
    try:
        result = evaluate(
            options.mesh,
            options.truth,
            options.tau,
            options.samples,
            options.seed,
            options.normalize,
            options.outside_only,
        )
    except BadInput as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
