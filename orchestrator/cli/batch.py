"""`batch`: every picture or mesh of a directory, or every line of a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import common, tables
from orchestrator.system.terminal import nobody_need_read, say

if TYPE_CHECKING:
    from orchestrator.commands.batch import Outcome
    from orchestrator.commands.batch_directory import Batch
    from orchestrator.planning.options import Options
    from orchestrator.planning.request import Prepared
    from orchestrator.processes.workspace import Workspace

MANY = 500
"""Jobs of a batch. A sketch's result takes 17 MB, 9 of them without mesh.obj: so a thousand
take 9 GB, and 500 no more."""


@click.command()
@click.argument("source", type=common.InputPath(), metavar="DIR|LIST")
@click.option(
    "--glob",
    metavar="PATTERN",
    help='Which files, e.g. "*.png". Default: all pictures, or else meshes.',
)
@click.option("--recursive", is_flag=True, help="Look into subdirectories.")
@common.output_option("BATCH_DIR", "Default: outputs/<its name>-<time>.")
@click.option(
    "--resume",
    "go_on",
    is_flag=True,
    help="Go on with the batch in --output; what is new joins it.",
)
@click.option(
    "--keep-going/--fail-fast", default=True, show_default=True, help="After a failed one."
)
@common.settings_options
@click.option("--until", metavar="NODE", help="Stop after this node.")
@common.format_option
@common.report_option
@common.keep_option(None, f"result; mesh for more than {MANY}")
@common.device_options
@common.budget_options
@common.view_options
def batch(
    source: Path,
    glob: str | None,
    recursive: bool,
    output: Path | None,
    go_on: bool,
    keep_going: bool,
    no_warm: bool,
    as_json: bool,
    verbose: bool,
    **request: Any,
) -> None:
    """Turn every picture in DIR, or every line of LIST, into a mesh.

    Pictures and meshes are told by their content. LIST is a text file with one description a line,
    or a CSV file with the columns text, name and seed (the last two may be left out). Each model is
    loaded once for all of them. Ends with a table, what was skipped, failed or degraded, and
    BATCH_DIR/summary.json and summary.csv.
    Exit code 0: all good, 1: some failed, 2: nothing to do.
    """
    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import batch_directory, batch_inputs
    from orchestrator.errors import UsageError
    from orchestrator.planning.request import prepare
    from orchestrator.processes.workspace import open_workspace

    told: list[object] = []
    with common.errors_as_json(as_json, told):
        found = batch_inputs.find_inputs(source, glob, recursive, request["profile"])
        request["keep"] = request["keep"] or ("mesh" if len(found.listed) > MANY else "result")
        request["start"] = found.start
        options = common.options_from(**request)
        if go_on and output is None:
            raise UsageError(
                "--resume needs --output BATCH_DIR", "or: kiss3d-orchestrate resume DIR"
            )
        with open_workspace(not no_warm) as workspace:
            prepared = prepare(options, workspace)  # refuses before anything is written
            known = None
            if go_on and output is not None and batch_directory.is_batch(output):
                known = batch_directory.load(output)
            subjects = [one.subject for one in found.listed]
            batch_run.require_resources(prepared, subjects, known, output)
            if known is not None:
                made = batch_directory.join(known, found, options)
            else:
                made = batch_directory.create(found, output, options)
            _run(made, prepared, told, as_json, verbose, not keep_going)


def finish_batch(
    path: Path,
    options: Options,
    workspace: Workspace,
    told: list[object],
    as_json: bool,
    verbose: bool,
) -> None:
    """`resume BATCH_DIR`: the recorded request, with what the command line adds.

    told: filled as soon as the outcomes are known, which are printed then in any case.
    """
    from dataclasses import replace

    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import batch_directory
    from orchestrator.planning.request import prepare

    known = batch_directory.load(path)
    device = known.options.device if options.device == "auto" else options.device
    merged = replace(
        known.options,
        device=device,
        sets=(*known.options.sets, *options.sets),
        target_vram=options.target_vram or known.options.target_vram,
        host_ram=options.host_ram or known.options.host_ram,
        report=known.options.report and options.report,
    )
    made = replace(known, options=merged)
    prepared = prepare(merged, workspace)
    if merged.candidates:
        from orchestrator.cli.candidates import finish_candidates

        finish_candidates(made, prepared, told, as_json, verbose)
        return
    batch_run.require_resources(prepared, (), made, path)
    _run(made, prepared, told, as_json, verbose, fail_fast=False)


def _run(
    made: Batch,
    prepared: Prepared,
    told: list[object],
    as_json: bool,
    verbose: bool,
    fail_fast: bool,
) -> None:
    from orchestrator.cli.live_view import open_view
    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import run

    if not as_json:
        say(f"profile {prepared.settings.name} ({prepared.reason})", err=True)
        count = len(made.jobs)
        say(f"{count} job{'s' if count > 1 else ''} -> {made.path}", err=True)
    view = open_view(prepared.graph.nodes.values(), len(made.jobs), as_json, verbose)
    outcomes: list[Outcome] = []
    try:
        with run.resumable(made.path), view:
            batch_run.execute(made, prepared, view, fail_fast, outcomes.extend)
    finally:
        if outcomes:
            told.extend(outcomes)
            _print_outcomes(made, outcomes, as_json)
    if any(not outcome.good for outcome in outcomes):
        raise SystemExit(1)


def _print_outcomes(made: Batch, outcomes: list[Outcome], as_json: bool) -> None:
    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import batch_report

    good = sum(outcome.good for outcome in outcomes)
    if as_json:
        with nobody_need_read(f"{made.path}"):
            common.print_json(
                {
                    "batch": str(made.path.resolve()),
                    "good": good,
                    "failed": len(outcomes) - good,
                    "jobs": [outcome.row() for outcome in outcomes],
                    "skipped": batch_run.skipped_rows(made),
                    "report": batch_run.index_of(made),
                }
            )
        return
    header, rows = batch_report.HEADER, list(batch_report.table_rows(outcomes))
    names = (header.index("input"), header.index("mesh"))
    tables.print_table(header, rows, err=True, shorten=names)
    for line in batch_report.closing_lines(made, outcomes):
        say(line, err=True)
    if page := batch_run.index_of(made):
        say(f"report: {page}", err=True)
    elif made.options.report:
        say(f"warning: no index.html: `kiss3d-orchestrate open {made.path}` says why", err=True)
    with nobody_need_read(f"{made.path}"):
        say(made.path / "summary.json")
