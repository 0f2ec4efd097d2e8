"""Output that several commands share: errors as JSON, and the end of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import tables
from orchestrator.errors import KissError, command
from orchestrator.system.faults import as_told
from orchestrator.system.stop_signals import STOP
from orchestrator.system.terminal import ReaderGoneError, nobody_need_read, say, say_json, visible

if TYPE_CHECKING:
    from orchestrator.planning.request import Prepared
    from orchestrator.record.run_directory import RunDirectory


def print_failure(
    message: str, hint: str, exit_code: int, facts: Mapping[str, Any] | None = None
) -> None:
    """The one JSON document of a command that ended before it had a result."""
    head = {"state": "failed", "error": message, "hint": hint, "exit_code": exit_code}
    say_json({**head, **(facts or {})})


@contextlib.contextmanager
def errors_as_json(as_json: bool, told: Sequence[object] = ()) -> Iterator[None]:
    """With --json, stdout holds one document even when the command ends before it has a result.

    told: filled by then if the command prints a document of its own. The error goes on to `main`.
    """
    try:
        yield
    except KissError as error:
        if as_json and not told:
            print_failure(error.message, error.hint, error.exit_code, error.facts())
        raise
    except (click.ClickException, click.Abort, ReaderGoneError):
        raise
    except KeyboardInterrupt:
        if as_json and not told:
            print_failure("interrupted", "", STOP.exit_code)
        raise
    except Exception as error:
        fault = as_told(error)
        if as_json and not told:
            print_failure(fault.message, fault.hint, fault.exit_code)
        raise fault from error


def announce(prepared: Prepared, as_json: bool) -> None:
    """What a run or batch is made with, before it begins."""
    if not as_json:
        say(f"profile {prepared.settings.name} ({prepared.reason})", err=True)
        for note in prepared.notes:
            say(f"note: {note}", err=True)


def print_run(run: RunDirectory, as_json: bool) -> None:
    """The end of a run: the table on stderr, the result's path on stdout (or JSON)."""
    from orchestrator.cli import run_table
    from orchestrator.record import summary
    from orchestrator.record.result_folder import PREVIEW_PNG, REPORT_HTML, RESULT_FILES
    from orchestrator.record.run_directory import RESULT

    if as_json:
        with nobody_need_read(f"{run.path}"):
            say_json(summary.summary(run))
        return
    tables.print_table(run_table.TABLE_HEADER, run_table.table_rows(run), err=True)
    for node, cost in run.manifest.degraded.items():
        say(f"degraded: {node}: {visible(cost, one_line=True)}", err=True)
    for node, texts in run.manifest.warnings.items():
        for text in texts:
            say(f"warning: {node}: {visible(text, one_line=True)}", err=True)
    result = run.path / RESULT
    for name in run.manifest.exports:
        say(f"export: {result / name}", err=True)
    if gone := run.manifest.former_exports:
        again = command("export", run.path)
        say(f"gone, as they were of an earlier mesh: {', '.join(gone)}; anew: {again}", err=True)
    if run.manifest.no_report:
        say(f"warning: no {REPORT_HTML}: {run.manifest.no_report}", err=True)
    shown = {"preview": PREVIEW_PNG, "obj": RESULT_FILES["obj"], "report": REPORT_HTML}
    for label, name in shown.items():
        if (result / name).is_file():
            say(f"{label}: {result / name}", err=True)
    mesh = result / RESULT_FILES["glb"]
    if run.manifest.kept != "all":
        told = "the result" if run.manifest.kept == "result" else f"of the meshes {mesh.name} alone"
        say(f"kept: {told}, not what it was made of (--keep all keeps that too)", err=True)
    if run.manifest.state == "done":
        say(f"done in {run.manifest.wall_seconds:.2f} s", err=True)
        with nobody_need_read(f"{run.path}"):
            say(mesh if mesh.is_file() else run.path)
