"""`clean`: give disk space back."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import answers, parameters
from orchestrator.system.terminal import say, say_json

if TYPE_CHECKING:
    from orchestrator.commands.clean import Chosen, Removed


@click.command()
@click.argument("root", type=parameters.NamedPath(), default=Path("outputs"))
@click.option(
    "--older-than",
    "days",
    type=parameters.Finite(0),
    default=0.0,
    metavar="DAYS",
    help="Only runs begun more than DAYS ago.",
)
@click.option("--failed", is_flag=True, help="Only runs that are not done.")
@click.option(
    "--intermediate",
    is_flag=True,
    help="Keep result/ and run.json, remove the nodes' artifacts: `resume` computes them again. "
    "Runs of --keep result or mesh have none, and are left alone.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --yes: what was removed, as one JSON document."
)
def clean(
    root: Path, days: float, failed: bool, intermediate: bool, yes: bool, as_json: bool
) -> None:
    """Remove runs, or just their intermediate artifacts.

    Runs below ROOT (default: outputs) go; so do the files of a batch whose runs all go, and cache
    entries that name a run which is gone. Nothing else is touched: files of yours in a run
    directory stay, with their folder, and are named. A run that is in use, or whose run.json cannot
    be read, is left alone. Exit code 1 when something could not be removed.
    """
    from orchestrator.commands import clean as cleanup
    from orchestrator.errors import RunRecordError, UsageError
    from orchestrator.record.find import may_hold_runs
    from orchestrator.record.run_directory import RunDirectory

    limit = time.time() - days * 86400.0

    def wanted(run: RunDirectory) -> bool:
        return run.manifest.created <= limit and not (failed and run.manifest.state == "done")

    with answers.errors_as_json(as_json):
        if as_json and not yes:
            raise UsageError("--json cannot ask, so nothing was removed", "add --yes")
        if not may_hold_runs(root):
            raise RunRecordError(f"{root} does not exist or is no directory", "nothing to clean")
        chosen = cleanup.choose(root, wanted, intermediate)
    for one in chosen.unreadable:
        say(f"left {one.path}, which is {one.state}: {one.error.hint}", err=True)
    if not chosen and not as_json:
        say("nothing to clean")
        return
    if not as_json:
        _show(chosen)
    if not yes and not _agreed():
        say("nothing was removed")
        return
    _tell(cleanup.remove(chosen), intermediate, as_json)


def _show(chosen: Chosen) -> None:
    from dataclasses import replace

    from orchestrator.record.summary import state_now

    for run in chosen.runs:
        size = replace(chosen, runs=(run,)).size
        say(f"{run.path}  {state_now(run)}  {_size(size)}")
    for folder in chosen.batches:
        say(f"{folder}  batch.json, summaries and logs")
    if chosen.entries:
        count = len(chosen.entries)
        say(f"{count} cache entr{_ies(count)} that would name a run that is gone")
    say(f"{_runs(len(chosen.runs), chosen.intermediate)}, {_size(chosen.size)} in all")


def _agreed() -> bool:
    """Ask. Raises `UsageError` where nobody can answer."""
    from orchestrator.errors import UsageError

    if sys.stdin is not None:
        try:
            return click.confirm("remove this?", err=True)
        except click.Abort as abort:
            if not isinstance(abort.__context__, EOFError):  # Ctrl-C
                raise
            say(err=True)  # behind the question
    raise UsageError("nothing was removed: nobody is there to answer", "add --yes")


def _tell(removed: Removed, intermediate: bool, as_json: bool) -> None:
    for item in removed.left:
        say(f"left {item.path}: {item.why}", err=True)
    if as_json:
        say_json(
            {
                "removed": [str(path.resolve()) for path in removed.runs],
                "batches": [str(path.resolve()) for path in removed.batches],
                "cache_entries": removed.entries,
                "intermediate": intermediate,
                "freed_bytes": removed.freed,
                "left": [
                    {
                        "path": str(item.path.resolve()),
                        "why": item.why,
                        "in_use": item.in_use,
                        "foreign": list(item.foreign),
                    }
                    for item in removed.left
                ],
            }
        )
    else:
        what = [_runs(len(removed.runs), intermediate)]
        if removed.batches:
            what.append(f"{len(removed.batches)} batch director{_ies(len(removed.batches))}")
        if removed.entries:
            what.append(f"{removed.entries} cache entr{_ies(removed.entries)}")
        say(f"removed {', '.join(what)}: {_size(removed.freed)} freed")
    if any(not item.in_use and not item.foreign for item in removed.left):
        raise SystemExit(1)


def _runs(count: int, intermediate: bool) -> str:
    runs = "1 run" if count == 1 else f"{count} runs"
    return f"intermediate artifacts of {runs}" if intermediate else runs


def _ies(count: int) -> str:
    return "y" if count == 1 else "ies"


def _size(count: int) -> str:
    from orchestrator.system.text import format_size

    return format_size(count) if count >= 1 << 20 else f"{count:,} bytes"
