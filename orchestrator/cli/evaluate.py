"""`evaluate`: how near a mesh is to the true one."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import answers, parameters, tables
from orchestrator.system.terminal import say, say_json

_ROWS = (
    ("chamfer_l1", "mean distance, mean of both ways"),
    ("chamfer_l2", "mean squared distance, mean of both ways"),
    ("to_truth", "mean distance from the mesh to the truth"),
    ("from_truth", "mean distance from the truth to the mesh"),
    ("f_score", "harmonic mean of precision and recall"),
    ("precision", "share of the mesh within tau of the truth"),
    ("recall", "share of the truth within tau of the mesh"),
    ("normal_consistency", "mean |cos| between normals of nearest points"),
    ("tau", "in the unit of the distances"),
    ("counted", "share of the truth that counts"),
)


@click.command()
@click.argument("mesh", type=parameters.InputPath())
@click.option(
    "--truth",
    type=parameters.InputPath(),
    required=True,
    metavar="MESH",
    help="The true mesh: .glb, .obj, .ply or .stl, as the mesh itself.",
)
@click.option(
    "--tau",
    type=parameters.Finite(0.0, min_open=True),
    default=0.05,
    show_default=True,
    help="What counts as right: a share of half the longest side of the truth's box.",
)
@click.option(
    "--samples",
    type=click.IntRange(100, 10_000_000),
    default=30_000,
    show_default=True,
    help="Points drawn on each mesh.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the points.")
@click.option(
    "--normalize/--no-normalize",
    default=True,
    show_default=True,
    help="Centre each mesh' bounding box and scale its longest side to 2 first; nothing is turned.",
)
@click.option(
    "--outside-only",
    is_flag=True,
    help="Parts of the truth that cannot be seen from outside do not count.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def evaluate(
    mesh: Path,
    truth: Path,
    tau: float,
    samples: int,
    seed: int,
    normalize: bool,
    outside_only: bool,
    as_json: bool,
) -> None:
    """Score MESH against a true mesh.

    Chamfer distance, F-score and normals. Distances are from points on either mesh to the triangles
    of the other.
    """
    options = ["--tau", str(tau), "--samples", str(samples), "--seed", str(seed)]
    options += ["--normalize"] if normalize else []
    options += ["--outside-only"] if outside_only else []
    from orchestrator.commands.score import score

    with answers.errors_as_json(as_json):
        result = score(mesh, truth, options)
    if as_json:
        request = {
            "mesh": str(mesh),
            "truth": str(truth),
            "samples": samples,
            "seed": seed,
            "normalize": normalize,
            "outside_only": outside_only,
        }
        say_json({**request, **result})
        return
    faces = result["faces"]
    unit = "longest side of each box is 2" if normalize else "as in the files"
    say(f"{mesh} ({faces['mesh']:,} faces) against {truth} ({faces['truth']:,} faces)")
    say(f"{samples:,} points on each, unit: {unit}\n")
    scores = result["scores"]
    tables.print_table(
        ("score", "value", "what it is"),
        [(name.replace("_", " "), f"{scores[name]:.5f}", meaning) for name, meaning in _ROWS],
    )
