"""`batch merge`: what became of all shards of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import answers, parameters
from orchestrator.cli import batch as batch_command
from orchestrator.system.terminal import nobody_need_read, say_json

if TYPE_CHECKING:
    from orchestrator.commands.merge import Merged


@click.command()
@click.argument("batch_dir", type=parameters.NamedPath())
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def merge(batch_dir: Path, as_json: bool) -> None:
    """Put the shards of a batch together, which `batch ... --shard I/N` made in BATCH_DIR.

    Writes BATCH_DIR/summary.json, summary.csv and index.html, as of a batch of one machine, and
    names what is missing, failed or still running. May be repeated at any time.
    Exit code 0: all good, 1: some failed or are not done.
    """
    from orchestrator.commands import merge as merging

    with answers.errors_as_json(as_json):
        merged = merging.merge(batch_dir)
    show(merged, as_json)
    batch_command.finish(merged.outcomes)


def show(merged: Merged, as_json: bool) -> None:
    """What became of all shards: a table and what is missing, or one JSON document."""
    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import merge as merging

    batch = merged.batch
    if as_json:
        skipped = batch_run.skipped_rows(batch)
        with nobody_need_read(f"{batch.path}"):
            say_json(merging.document(merged, batch_run.index_of(batch), skipped))
        return
    batch_command.print_table(batch, merged.outcomes, merged.lines())
