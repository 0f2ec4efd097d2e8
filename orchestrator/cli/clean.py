"""`clean`: give disk space back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.artifacts import RunDirectory


@click.command()
@click.argument("root", type=click.Path(path_type=Path), default=Path("outputs"))
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(0),
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
    """Remove runs below ROOT (default: outputs), or just their intermediate artifacts.

    Only directories that hold a run.json are touched; one that is in use is left alone.
    """
    from orchestrator.errors import RunLockedError, RunRecordError
    from orchestrator.runs import find_runs

    if not root.is_dir():
        raise RunRecordError(f"{root} does not exist", "nothing to clean")
    limit = time.time() - days * 86400.0
    chosen = [
        run
        for run in find_runs(root)
        if run.manifest.created <= limit and not (failed and run.manifest.state == "done")
    ]
    if not chosen:
        click.echo("nothing to clean")
        return
    total = sum(_bytes(run.path) for run in chosen)
    what = "the intermediate artifacts of " if intermediate else ""
    for run in chosen:
        click.echo(f"{run.path}  {run.manifest.state}  {_bytes(run.path) / 2**20:.0f} MiB")
    question = f"remove {what}{len(chosen)} runs ({total / 2**20:.0f} MiB in all)?"
    if not yes and not click.confirm(question):
        return
    for run in chosen:
        try:
            with run.locked():
                _remove(run, intermediate)
        except RunLockedError as error:
            click.echo(f"left alone: {error.message}", err=True)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove(run: RunDirectory, intermediate: bool) -> None:
    if not intermediate:
        shutil.rmtree(run.path)
        return
    for name, record in run.manifest.nodes.items():
        shutil.rmtree(run.path / name, ignore_errors=True)
        record.state, record.artifacts, record.key = "pending", {}, ""
    run.save()
