"""`run`, `plan` and `resume`: one picture, mesh or text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import answers, parameters, tables
from orchestrator.system.terminal import say, say_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.cli.live_view import RunView
    from orchestrator.planning.plan import PlanRow
    from orchestrator.planning.request import Prepared
    from orchestrator.record.run_directory import RunDirectory


MOST_CANDIDATES = 64
"""Seeds of one command: a night's work of the largest profile."""


@click.command()
@parameters.subject_options
@parameters.output_option("DIR", "Run directory. Default: outputs/<input>-<time>.")
@parameters.settings_options
@parameters.range_options
@click.option(
    "--candidates",
    type=click.IntRange(2, MOST_CANDIDATES),
    metavar="N",
    help="Make N runs, of seeds from --seed on, and keep the one that agrees best with its input.",
)
@parameters.format_option
@parameters.report_option
@parameters.keep_option("all", "all")
@parameters.device_options
@parameters.budget_options
@parameters.view_options
def run(output: Path | None, no_warm: bool, as_json: bool, verbose: bool, **request: Any) -> None:
    """Turn FILE, a picture or a mesh, or --text into a mesh.

    Pictures of the object's other sides are given with --back, --left and --right, or as further
    FILEs with --views auto.
    """
    from orchestrator.processes.workspace import open_workspace

    started: list[Any] = []
    with (
        answers.errors_as_json(as_json, started),
        open_workspace(not no_warm) as workspace,  # first: it boots while the rest is imported
    ):
        from orchestrator.commands import carry_out

        subject = parameters.take_subject(request)
        options = parameters.options_from(**request)
        if options.candidates:
            from orchestrator.cli.batch import finish
            from orchestrator.cli.candidates import shell_of

            shell = shell_of(started, as_json, verbose, answers.announce)
            finish(carry_out.candidates(subject, output, options, workspace, shell))
            return

        def view(prepared: Prepared, _: object) -> RunView:
            answers.announce(prepared, as_json)
            # Only now: the template has something to import meanwhile.
            from orchestrator.cli.live_view import open_view
            from orchestrator.commands import run as runs

            if not as_json and (changed := runs.replaced(prepared, subject, output)):
                say(
                    f"note: {output} holds a finished run with another {', '.join(changed)}: "
                    "its result will be replaced; another --output keeps both",
                    err=True,
                )
            if verbose and not as_json:
                _print_plan(prepared, runs.plan(prepared, subject, output))
            return open_view(prepared.graph.nodes.values(), 1, as_json, verbose)

        try:
            shell = carry_out.Shell(view, started.append)
            carry_out.run(subject, output, options, workspace, shell)
        finally:
            if started and not started[0].path.exists():  # the input was no picture
                started.clear()
            if started:
                answers.print_run(started[0], as_json)


@click.command()
@parameters.subject_options
@parameters.output_option("DIR", "Run directory that would be used.")
@parameters.settings_options
@parameters.range_options
@parameters.device_option
@parameters.budget_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def plan(output: Path | None, as_json: bool, **request: Any) -> None:
    """Show what `run` would do, without starting anything.

    Exit code 2: a card or weights are missing that it would need.
    """
    from dataclasses import asdict

    from orchestrator.commands.plans import make_plan

    told: list[object] = []
    with answers.errors_as_json(as_json, told):
        subject = parameters.take_subject(request)
        made = make_plan(subject, output, parameters.options_from(**request))
        prepared, rows = made.prepared, list(made.rows)
        if as_json:
            say_json(
                {
                    "profile": made.profile,
                    "profile_reason": made.reason,
                    "seed": prepared.seed,
                    "budget": asdict(prepared.budget),
                    "notes": list(prepared.notes),
                    "nodes": [asdict(row) for row in rows],
                    "missing_card": made.card.message if made.card else "",
                    "missing_weights": made.weights.missing if made.weights else [],
                }
            )
            told.append(rows)
        else:
            answers.announce(prepared, as_json)
            _print_plan(prepared, rows, err=False)
        if made.card and made.weights:  # one of them is raised, both are told
            say(f"no card: {made.card}", err=True)
        if made.refusal:
            raise made.refusal


@click.command()
@click.argument("run_dir", type=parameters.NamedPath())
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NODE.PARAM=VALUE",
    help="Change one value before going on.",
)
@parameters.report_option
@parameters.device_options
@parameters.budget_options
@parameters.view_options
def resume(run_dir: Path, no_warm: bool, as_json: bool, verbose: bool, **request: Any) -> None:
    """Go on with an interrupted or failed run.

    What is finished and unchanged is kept. RUN_DIR may be the directory of a run or of a batch.
    """
    from orchestrator.processes.workspace import open_workspace

    opened: list[object] = []
    with answers.errors_as_json(as_json, opened), open_workspace(not no_warm) as workspace:
        from orchestrator.cli.live_view import open_view
        from orchestrator.commands import batch_directory, carry_out

        options = parameters.options_from(**request)
        if batch_directory.is_batch(run_dir):
            from orchestrator.cli import batch, candidates

            several = batch_directory.load(run_dir).options.candidates
            shell = (candidates if several else batch).shell_of(opened, as_json, verbose)
            batch.finish(carry_out.resume_batch(run_dir, options, workspace, shell))
            return

        def view(prepared: Prepared, _: object) -> RunView:
            return open_view(prepared.graph.nodes.values(), 1, as_json, verbose)

        started: list[RunDirectory] = []
        try:
            shell = carry_out.Shell(view, started.append)
            carry_out.resume(run_dir, options, workspace, shell)
        finally:
            opened += started
            if started:
                answers.print_run(started[0], as_json)


def _print_plan(prepared: Prepared, plan: list[PlanRow], err: bool = True) -> None:
    from orchestrator.commands.plans import PLAN_HEADER, plan_cells

    tables.print_table(PLAN_HEADER, [plan_cells(row) for row in plan], err=err)
    for row in plan:
        for line in _ladder_notes(row):
            say(f"{row.node}: {line}", err=err)
    _print_seconds([row for row in plan if not row.cached], prepared.budget.why, err)


def _print_seconds(running: list[PlanRow], budget: str, err: bool) -> None:
    """What the nodes that will run take in all; those of the CPU alone, where there are no others.

    Beside a card's they are few, and not measured on one machine with it.
    """
    on_gpu = [row for row in running if row.device == "cuda"]
    if any(row.expected for row in on_gpu):
        seconds = sum(row.expected.seconds for row in on_gpu if row.expected)
        unknown = [row.node for row in on_gpu if not row.expected]
        without = f" without {', '.join(unknown)}, never measured so" if unknown else ""
        say(
            f"GPU nodes: about {seconds:.0f} s on the card of the measurements{without}; budget: "
            f"{budget}",
            err=err,
        )
    elif not running:
        say("nothing to compute: all of it is taken from earlier runs", err=err)
    elif all(row.expected for row in running):
        seconds = sum(row.expected.seconds for row in running if row.expected)
        say(f"about {seconds:.0f} s on two CPU cores", err=err)


def _ladder_notes(row: PlanRow) -> Iterator[str]:
    """What is to be said of a node's ladder beside its first rung."""
    for why in row.skipped:
        yield f"not tried: {why}"
    if row.degraded[0]:
        yield f"degraded: {row.degraded[0]}"
    below = [
        f"{rung} (degraded: {cost})" if cost else rung
        for rung, cost in zip(row.ladder[1:], row.degraded[1:], strict=True)
    ]
    if below and not row.cached:
        yield f"should that fail: {', then '.join(below)}"
