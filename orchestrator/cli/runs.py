"""`runs list` and `runs show`: what has been made."""

from __future__ import annotations

import time
from pathlib import Path

import click

from orchestrator.cli import answers, parameters, tables
from orchestrator.system.terminal import say, say_json, visible


@click.group()
def runs() -> None:
    """Look at earlier runs."""


@runs.command("list")
@click.argument("root", type=parameters.NamedPath(), default=Path("outputs"))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_runs(root: Path, as_json: bool) -> None:
    """All runs below ROOT (default: outputs), oldest first.

    "stages s" is what a run's stages took, failed attempts too, from its first start to its last
    resume; without loading, which a batch does once for many. Runs that cannot be read come last,
    marked damaged.
    """
    from orchestrator.errors import RunRecordError
    from orchestrator.record import summary
    from orchestrator.record.find import find_runs, may_hold_runs

    with answers.errors_as_json(as_json):
        if not may_hold_runs(root):
            raise RunRecordError(
                f"{root} does not exist or is no directory",
                "`kiss3d-orchestrate run IMG` makes a run",
            )
        found, unreadable = find_runs(root)
    if as_json:
        say_json(
            [
                *({**summary.summary(run), "state": summary.state_now(run)} for run in found),
                *(
                    {
                        "run": str(one.path.resolve()),
                        "state": one.state,
                        "error": one.error.message,
                        "hint": one.error.hint,
                    }
                    for one in unreadable
                ),
            ]
        )
        return
    if not found and not unreadable:
        say(f"no runs below {root}", err=True)
        return
    rows = [
        (
            str(run.path),
            summary.state_now(run),
            run.manifest.profile,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(run.manifest.created)),
            f"{run.manifest.stage_seconds:.1f}",
            run.manifest.error.partition("\n")[0],
        )
        for run in found
    ]
    rows += [(str(one.path), one.state, "-", "-", "-", one.error.message) for one in unreadable]
    header = ("run", "state", "profile", "begun", "stages s", "error")
    tables.print_table(header, rows, shorten=(header.index("error"),))
    for one in unreadable:
        say(f"{one.path} is {one.state}\n  -> {one.error.hint}", err=True)


@runs.command()
@click.argument("run_dir", type=parameters.NamedPath())
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
def show(run_dir: Path, as_json: bool) -> None:
    """One run: its nodes and every failed attempt.

    Each failed attempt comes with what was decided after it.
    """
    from orchestrator.cli import run_table
    from orchestrator.record import summary
    from orchestrator.record.run_directory import RunDirectory

    with answers.errors_as_json(as_json):
        run = RunDirectory.open(run_dir)
    manifest = run.manifest
    if as_json:
        say_json({**manifest.model_dump(mode="json"), "state": summary.state_now(run)})
        return
    state = summary.state_now(run)
    say(f"{run.path}: {state}, profile {manifest.profile}, seed {manifest.seed}")
    say(f"input {visible(manifest.input.title, one_line=True)}\n")
    tables.print_table(run_table.TABLE_HEADER, run_table.table_rows(run))
    for name, record in manifest.nodes.items():
        if record.cached_from:
            say(f"\n{name}: taken from {record.cached_from}")
        for number, attempt in enumerate(record.attempts, start=1):
            if attempt.outcome != "done":
                say(f"\n{name}, attempt {number}: {attempt.outcome}: {attempt.message}")
                say(f"  {attempt.move}\n  log: {attempt.log}")
