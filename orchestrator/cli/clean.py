"""`clean`: give disk space back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import common

if TYPE_CHECKING:
    from orchestrator.cleanup import Chosen


@click.command()
@click.argument("root", type=click.Path(path_type=Path), default=Path("outputs"))
@click.option(
    "--older-than",
    "days",
    type=common.Finite(0),
    default=0.0,
    metavar="DAYS",
    help="Only runs begun more than DAYS ago.",
)
@click.option("--failed", is_flag=True, help="Only runs that are not done.")
@click.option(
    "--intermediate", is_flag=True, help="Keep result/ and run.json, remove the nodes' artifacts."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(root: Path, days: float, failed: bool, intermediate: bool, yes: bool) -> None:
    """Remove runs, or just their intermediate artifacts.

    Runs below ROOT (default: outputs) go; so do the files of a batch whose runs all go, and cache
    entries that name a run which is gone. Nothing else is touched. A run that is in use is left
    alone. Exit code 1 when something could not be removed.
    """
    from orchestrator import cleanup
    from orchestrator.artifacts import RunDirectory
    from orchestrator.errors import RunRecordError

    if not root.is_dir():
        raise RunRecordError(f"{root} does not exist", "nothing to clean")
    limit = time.time() - days * 86400.0

    def wanted(run: RunDirectory) -> bool:
        return run.manifest.created <= limit and not (failed and run.manifest.state == "done")

    chosen = cleanup.choose(root, wanted, intermediate)
    if not chosen:
        click.echo("nothing to clean")
        return
    _show(chosen)
    if not yes and not click.confirm("remove this?"):
        return
    left = cleanup.remove(chosen)
    for item in left:
        click.echo(f"left {item.path}: {item.why}", err=True)
    if any(not item.in_use for item in left):
        raise SystemExit(1)


def _show(chosen: Chosen) -> None:
    from orchestrator.cleanup import size_of
    from orchestrator.report import state_now

    total = 0
    for run in chosen.runs:
        nodes = [run.path / name for name in run.manifest.nodes]
        size = size_of(nodes if chosen.intermediate else [run.path])
        total += size
        click.echo(f"{run.path}  {state_now(run)}  {size / 2**20:.0f} MiB")
    for folder in chosen.batches:
        click.echo(f"{folder}  batch.json, summaries and logs")
    if chosen.entries:
        click.echo(f"{len(chosen.entries)} cache entries of runs that are gone by then")
    what = "intermediate artifacts of " if chosen.intermediate else ""
    click.echo(f"{what}{len(chosen.runs)} runs, {total / 2**20:.0f} MiB in all")
