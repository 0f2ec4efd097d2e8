"""`run --candidates N`, and `resume` of its directory: the table of scores, and the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli import tables
from orchestrator.system.terminal import nobody_need_read, say, say_json

if TYPE_CHECKING:
    from orchestrator.cli.live_view import RunView
    from orchestrator.commands.batch_directory import Batch
    from orchestrator.commands.candidate_scores import Candidate
    from orchestrator.commands.carry_out import Shell
    from orchestrator.planning.request import Prepared

HEADER = ("seed", "state", "agreement", "outlines", "colours", "normals", "mesh")


def shell_of(
    told: list[object],
    as_json: bool,
    verbose: bool,
    announce: Callable[[Prepared, bool], None] = lambda prepared, as_json: None,
) -> Shell:
    """How candidates are shown. told: filled as soon as what became of them is printed.

    announce: says what they are made with, before anything else
    """
    from orchestrator.commands.carry_out import Shell

    def view(prepared: Prepared, made: Batch | None) -> RunView:
        from orchestrator.cli.live_view import open_view

        announce(prepared, as_json)
        count = len(made.jobs) if made else 1
        if made is not None and not as_json:
            say(f"{count} seeds -> {made.path}", err=True)
        return open_view(prepared.graph.nodes.values(), count, as_json, verbose)

    def scored(made: Batch, found: Sequence[Candidate]) -> None:
        from orchestrator.commands import candidates

        told.extend(found)
        _print(made, found, as_json)
        if candidates.best_of(found) is None:
            raise SystemExit(1)

    return Shell(view, scored=scored)


def _print(made: Batch, found: Sequence[Candidate], as_json: bool) -> None:
    from orchestrator.commands import batch as batch_run
    from orchestrator.commands import candidates
    from orchestrator.record.result_folder import RESULT_FILES
    from orchestrator.record.run_directory import RESULT

    best = candidates.best_of(found)
    mesh = made.path / RESULT / RESULT_FILES["glb"]
    if as_json:
        document = candidates.document(found)
        runs = {one.outcome.name: one.outcome.row() for one in found}
        with nobody_need_read(f"{made.path}"):
            say_json(
                {
                    "batch": str(made.path.resolve()),
                    **document,
                    "mesh": str(mesh.resolve()) if best and mesh.is_file() else "",
                    "jobs": list(runs.values()),
                    "report": batch_run.index_of(made),
                }
            )
        return
    rows = [_cells(one, one is best) for one in found]
    tables.print_table(HEADER, rows, err=True, shorten=(HEADER.index("mesh"),))
    for one in found:
        for text in filter(None, [one.outcome.note or one.why]):
            say(f"seed {one.seed}: {text}", err=True)
        for text in one.outcome.warnings:
            say(f"warning: seed {one.seed}: {text}", err=True)
        for cost in one.outcome.costs:
            say(f"degraded: seed {one.seed}: {cost}", err=True)
    if page := batch_run.index_of(made):
        say(f"report: {page}", err=True)
    if best is None:
        say("no candidate could be scored", err=True)
        return
    say(f"best: seed {best.seed} (agreement {best.score:.3f})", err=True)
    with nobody_need_read(f"{made.path}"):
        say(mesh if mesh.is_file() else made.path)


def _cells(one: Candidate, is_best: bool) -> tuple[str, ...]:
    scores = one.scores or {}
    cells = [scores.get(name) for name in ("score", "outlines", "colours", "normals")]
    shown = [f"{cell:.3f}" if isinstance(cell, float | int) else "-" for cell in cells]
    mark = " *" if is_best else ""
    mesh = str(one.outcome.row()["mesh"]) or "-"
    return (f"{one.seed}{mark}", one.outcome.state, *shown, mesh)
