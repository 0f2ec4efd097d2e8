"""`batch`: every picture or mesh of a directory, or every line of a list; or a shard of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import answers, parameters, tables
from orchestrator.system.terminal import nobody_need_read, say, say_json, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from click.shell_completion import CompletionItem

    from orchestrator.cli.live_view import RunView
    from orchestrator.commands.batch import Outcome
    from orchestrator.commands.batch_directory import Batch
    from orchestrator.commands.batch_inputs import BatchInputs
    from orchestrator.commands.carry_out import BatchRequest, Shell
    from orchestrator.planning.options import Options
    from orchestrator.planning.request import Prepared


MERGE = "merge"


class _Source(parameters.InputPath):
    """A folder or list, or the word for the command that puts shards together."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = super().shell_complete(ctx, param, incomplete)
        if MERGE.startswith(incomplete):
            found.append(CompletionItem(MERGE, help="put the shards of a batch together"))
        return found


class WithMerge(click.Command):
    """`batch DIR`, and `batch merge DIR`. A folder of that name is ./merge."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] != [MERGE]:
            return super().make_context(info_name, args, parent, **extra)
        from orchestrator.cli.merge import merge

        return merge.make_context(f"{info_name} {MERGE}", args[1:], parent, **extra)


@click.command(cls=WithMerge)
@click.argument("source", type=_Source(), metavar="DIR|LIST")
@click.option(
    "--glob",
    metavar="PATTERN",
    help='Which files, e.g. "*.png". Default: all pictures, or else meshes.',
)
@click.option("--recursive", is_flag=True, help="Look into subdirectories.")
@parameters.output_option("BATCH_DIR", "Default: outputs/<its name>-<time>.")
@click.option(
    "--resume",
    "go_on",
    is_flag=True,
    help="Go on with the batch in --output; what is new joins it.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Only part I of N, counted from 0 to N-1, in a directory of its own in --output, which "
    "all N share. It is gone on with if it is there.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="auto",
    metavar="[ADDRESS|auto|local]",
    help="Have a Ray cluster do the shards, one a card: the one at ADDRESS, the one that this "
    "machine is part of (auto, also where nothing follows), or one of this machine alone (local).",
)
@click.option(
    "--stage-in",
    is_flag=True,
    help="With --ray: inputs and results travel through Ray, so that no folder has to be shared.",
)
@click.option(
    "--keep-going/--fail-fast", default=True, show_default=True, help="After a failed one."
)
@parameters.settings_options
@click.option("--until", metavar="NODE", help="Stop after this node.")
@parameters.format_option
@parameters.report_option
@parameters.keep_option(None, "result; mesh for more than 500")
@parameters.device_options
@parameters.budget_options
@parameters.view_options
def batch(
    source: Path,
    glob: str | None,
    recursive: bool,
    output: Path | None,
    go_on: bool,
    shard: str | None,
    ray: str | None,
    stage_in: bool,
    keep_going: bool,
    no_warm: bool,
    as_json: bool,
    verbose: bool,
    **request: Any,
) -> None:
    """Turn every picture in DIR, or every line of LIST, into a mesh.

    Pictures and meshes are told by their content. LIST is a text file with one description a line,
    or one path of a picture or mesh a line, seen from the list's folder; or a CSV file with the
    columns text (either of these), name and seed (the last two may be left out). Each model is
    loaded once for all of them. Ends with a table, what was skipped, failed or degraded, and
    BATCH_DIR/summary.json and summary.csv.
    Exit code 0: all good, 1: some failed, 2: nothing to do.

    On several machines, each does --shard I/N of it; `batch merge BATCH_DIR` puts them together.
    """
    import functools

    from orchestrator.commands import carry_out
    from orchestrator.errors import UsageError
    from orchestrator.processes.workspace import open_workspace

    told: list[object] = []
    asked = carry_out.BatchRequest(source, glob, recursive, output, go_on, not keep_going, shard)
    options, keep_is_open = parameters.options_from(**request), request["keep"] is None
    with answers.errors_as_json(as_json, told):
        if stage_in and ray is None:
            raise UsageError("--stage-in without --ray", "leave it out, or add --ray")
        if ray is not None:
            _on_ray(asked, options, keep_is_open, not no_warm, ray, stage_in, as_json, verbose)
            return
        finish(
            carry_out.batch(
                asked,
                options,
                keep_is_open,
                functools.partial(open_workspace, not no_warm),
                shell_of(told, as_json, verbose),
            )
        )


def _on_ray(
    asked: BatchRequest,
    options: Options,
    keep_is_open: bool,
    warm: bool,
    address: str,
    stage_in: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    from orchestrator.api import ray_batch
    from orchestrator.cli.merge import show
    from orchestrator.cli.shards_view import open_shards_view

    def watch(begun: ray_batch.Begun) -> RunView:
        if not as_json:
            say(begun.line, err=True)
        nodes = begun.prepared.graph.nodes.values()
        return open_shards_view(nodes, begun.jobs, begun.todo, as_json, verbose)

    tell = _teller(as_json)
    merged = ray_batch.batch(asked, options, keep_is_open, warm, address, watch, stage_in, tell)
    show(merged, as_json)
    finish(merged.outcomes)


def finish(outcomes: Sequence[Outcome]) -> None:
    """Exit code 1 where one has failed."""
    if any(not outcome.good for outcome in outcomes):
        raise SystemExit(1)


def _teller(as_json: bool) -> Callable[[BatchInputs], None]:
    """What says how a list was read."""

    def tell(found: BatchInputs) -> None:
        if found.told and not as_json:
            say(f"note: {visible(found.told, one_line=True)}", err=True)

    return tell


def shell_of(told: list[object], as_json: bool, verbose: bool) -> Shell:
    """How a batch is shown. told: filled as soon as the outcomes are known, which are printed then
    in any case."""
    from orchestrator.commands.carry_out import Shell

    def view(prepared: Prepared, made: Batch | None) -> RunView:
        from orchestrator.cli.live_view import open_view

        count = len(made.jobs) if made else 1
        if made is not None and not as_json:
            answers.announce(prepared, as_json)
            say(f"{count} job{'s' if count > 1 else ''} -> {made.path}", err=True)
        return open_view(prepared.graph.nodes.values(), count, as_json, verbose)

    def tell(made: Batch, outcomes: list[Outcome]) -> None:
        told.extend(outcomes)
        _print_outcomes(made, outcomes, as_json)

    return Shell(view, told=tell, found=_teller(as_json))


def _print_outcomes(made: Batch, outcomes: list[Outcome], as_json: bool) -> None:
    from orchestrator.commands import batch as batch_run

    good = sum(outcome.good for outcome in outcomes)
    if not made.jobs and not as_json:
        say(f"{made.path.name}: nothing to do: there are fewer inputs than shards", err=True)
        return
    if as_json:
        with nobody_need_read(f"{made.path}"):
            say_json(
                {
                    "batch": str(made.path.resolve()),
                    "good": good,
                    "failed": len(outcomes) - good,
                    **batch_run.totals(outcomes).as_row(),
                    "jobs": [outcome.row() for outcome in outcomes],
                    "skipped": batch_run.skipped_rows(made),
                    "report": batch_run.index_of(made),
                }
            )
        return
    print_table(made, outcomes, filter(None, [str(batch_run.totals(outcomes))]))


def print_table(made: Batch, outcomes: Sequence[Outcome], more: Iterable[str] = ()) -> None:
    """For people: every picture, what became of them, and where the summary is."""
    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import batch_report
    from orchestrator.commands.batch_directory import SUMMARY
    from orchestrator.record.result_folder import INDEX_HTML

    header, rows = batch_report.HEADER, list(batch_report.table_rows(outcomes))
    names = (header.index("input"), header.index("mesh"))
    tables.print_table(header, rows, err=True, shorten=names)
    for line in (*batch_report.closing_lines(made, outcomes), *more):
        say(line, err=True)
    if page := batch_run.index_of(made):
        say(f"report: {page}", err=True)
    elif made.options.report:
        say(f"warning: no {INDEX_HTML}: `kiss3d-orchestrate open {made.path}` says why", err=True)
    with nobody_need_read(f"{made.path}"):
        say(made.path / SUMMARY)
