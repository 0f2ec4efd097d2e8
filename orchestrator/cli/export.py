"""`export`: a mesh in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli import answers, parameters, tables
from orchestrator.system.terminal import say, say_json, visible
from stages.contract.mesh_formats import FEWEST_FACES, MOST_FACES


@click.command()
@click.argument("source", type=parameters.InputPath(), metavar="RUN|MESH")
@click.option(
    "--format",
    "formats",
    callback=parameters.read_formats,
    default="stl,3mf",
    show_default=True,
    metavar="glb,obj,ply,stl,3mf,usdz",
    help="One or several.",
)
@parameters.output_option("DIR", "Default: the run's result/; of a file the current folder.")
@click.option(
    "--height",
    callback=parameters.read_length,
    metavar="100mm",
    help="How high it is to be, in mm, cm, m or in. Default of STL and 3MF: 100mm.",
)
@click.option(
    "--faces",
    type=click.IntRange(FEWEST_FACES, MOST_FACES),
    metavar="N",
    help="No more faces than that; the texture is made anew for them.",
)
@click.option("--y-up", is_flag=True, help="STL and 3MF keep y up, as the other formats do.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def export(
    source: Path,
    formats: tuple[str, ...],
    output: Path | None,
    height: float | None,
    faces: int | None,
    y_up: bool,
    as_json: bool,
) -> None:
    """Write the mesh of RUN, or a mesh file, in other formats.

    STL and 3MF are for printing: watertight, in millimetres, z up. Nothing is written over but what
    an earlier export put into the run.
    Exit code 2: it cannot be done as given, 1: the mesh cannot be made watertight.
    """
    from orchestrator.commands.export import Request
    from orchestrator.commands.export import export as write

    with answers.errors_as_json(as_json):
        made = write(source, output, Request(formats, height, faces, y_up))
    if as_json:
        rows = [{**row, "path": str(Path(row["path"]).resolve())} for row in made.files]
        say_json({"files": rows, "notes": made.notes})
        return
    header = ("file", "faces", "size", "bytes")
    tables.print_table(header, [_cells(row) for row in made.files], err=True)
    for note in made.notes:
        say(f"note: {visible(note, one_line=True)}", err=True)
    for row in made.files:
        say(row["path"])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    size = " x ".join(f"{side:.4g}" for side in row.get("size", ()))
    return (
        Path(row["path"]).name,
        f"{row['faces']:,}" if "faces" in row else "-",
        f"{size} {row['unit']}".strip() if size else "-",
        f"{row['bytes']:,}",
    )
