"""Run a batch: every subject a job of one runner, and what became of each."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.commands import open_run, pages
from orchestrator.commands import run as runs
from orchestrator.commands.batch_directory import LOGS, SUMMARY, SUMMARY_TABLE, Batch
from orchestrator.commands.batch_totals import Go, Totals, go_of, totals_of
from orchestrator.commands.subject import Subject
from orchestrator.errors import InterruptedRunError, KissError, command
from orchestrator.planning.request import Prepared
from orchestrator.planning.shortages import require_card, require_inputs
from orchestrator.processes.workspace import Workspace, open_workspace
from orchestrator.record import result_folder, summary
from orchestrator.record.cache import CacheIndex
from orchestrator.record.manifest import AttemptRow
from orchestrator.record.run_directory import OUTPUTS, RESULT, RunDirectory
from orchestrator.running.run_events import Observer, RunEvent
from orchestrator.running.spread import goes_by_picture
from orchestrator.system.atomic_files import write_atomic, write_long_json
from orchestrator.system.inside import Inside
from orchestrator.system.locks import as_output_error, directory_lock
from orchestrator.system.text import printable
from orchestrator.weights import needs

AT_ONCE = 64
"""Pictures that are worked on together, stage by stage, where only results are kept. One takes 70
MB until it is done, so that these need 4.5 GB; each model is loaded once for all of them."""
AT_ONCE_KEPT = 512
"""The same where everything is kept: the parent has the records of so many in memory."""


@dataclass(frozen=True)
class Outcome:
    """One job's end: what its record says, which stays on the disk.

    run          None where it could not even be opened
    degraded     node -> what its result lacks; warnings: what its stages warned of
    log          what the process of the failed node last wrote to, or ""
    kept_alone   its result is all that was kept
    stage_seconds, go  what it took
    """

    name: str
    subject: Subject
    run: RunDirectory | None
    state: str
    error: str
    hint: str = ""
    degraded: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    log: str = ""
    kept_alone: bool = False
    stage_seconds: float = 0.0
    go: Go | None = None

    @property
    def input(self) -> str:
        """The file's path, or the words."""
        return str(self.subject.source or self.subject.text)

    @property
    def good(self) -> bool:
        return self.state == "done"

    @property
    def note(self) -> str:
        """Why it failed and what to do next, or ""."""
        return str(KissError(self.error, self.hint)) if self.error else ""

    @property
    def costs(self) -> list[str]:
        """What its result lacks, a line for each node."""
        return [f"{node}: {cost}" for node, cost in self.degraded.items()]

    def row(self) -> dict[str, Any]:
        mesh = self._result(result_folder.RESULT_FILES["glb"])
        return {
            "name": self.name,
            "input": self.input,
            "state": self.state,
            "error": self.error,
            "hint": self.hint,
            "log": self.log,
            "degraded": "; ".join(self.degraded.values()),
            "warnings": "; ".join(self.warnings),
            "run": str(self.run.path) if self.run else "",
            "mesh": mesh,
            "stage_seconds": round(self.stage_seconds, 3),
            "report": self._result(result_folder.REPORT_HTML),
        }

    def _result(self, name: str) -> str:
        """Path of a file of the run's result, or "" where there is none."""
        path = self.run.path / RESULT / name if self.run else None
        return str(path) if path and path.is_file() else ""


def outcome_of(name: str, subject: Subject, run: RunDirectory) -> Outcome:
    """A job's end as its run's record has it, which rests then. Raises `RunRecordError`."""
    manifest, last = run.manifest, _failed_attempt(run)
    run.rest()
    return Outcome(
        name,
        subject,
        run,
        "not exported" if manifest.no_export else manifest.state,
        manifest.error or manifest.no_export,
        last.hint if last else "",
        manifest.degraded,
        [text for texts in manifest.warnings.values() for text in texts],
        last.log if last else "",
        manifest.kept != "all",
        manifest.stage_seconds,
        go_of(manifest),
    )


def require_resources(
    prepared: Prepared, subjects: Sequence[Subject], known: Batch | None, path: Path | None
) -> None:
    """Refuse when a job's node that will run lacks a card or weights; writes nothing.

    known: the batch that is gone on with. path: of the new one, if it was chosen.
    Raises `UsageError` or `MissingWeightsError`.
    """

    def will_run() -> set[str]:
        cache = open_run.cache_beside(known.path if known else path or Path(OUTPUTS) / "new")
        found = set()
        for output, subject in [*_runs_of(known), *((None, subject) for subject in subjects)]:
            with contextlib.suppress(KissError):  # a bad file fails alone, later
                found |= runs.to_run(runs.predict_one(prepared, subject, output, cache))
        return found

    for subject in subjects[:1]:  # all are of one kind
        require_inputs(prepared, subject.start, subject.artifacts)
    require_card(prepared, will_run)
    needs.require(prepared.graph, bool(prepared.cards), will_run)


def _runs_of(known: Batch | None) -> Iterator[tuple[Path, Subject]]:
    """(run directory, subject) of each job of a batch that is gone on with."""
    if known is not None:
        for name, subject in known.jobs.items():
            yield known.path / name, subject


def cache_of(batch: Batch) -> CacheIndex | None:
    """Where its runs find what was computed before. Candidates share what no seed changes: where
    there is no index beside the batch, they have one in it."""
    beside = open_run.cache_beside(batch.path)
    return CacheIndex(batch.path) if beside is None and batch.options.candidates else beside


def execute(
    batch: Batch,
    prepared: Prepared,
    observer: Observer,
    fail_fast: bool = False,
    on_end: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """Run the whole batch; files that cannot be opened fail alone, before any process starts.

    Writes summary.json and summary.csv however it ends; on_end hears the outcomes first.
    """
    inside = Inside(batch.path)
    with directory_lock(batch.path):
        inside.discard_temporaries()
        outcomes: dict[str, Outcome] = {}
        opened: list[tuple[str, RunDirectory]] = []
        for name, subject in batch.jobs.items():
            try:
                with as_output_error(batch.path / name):
                    inside.check(name)
                run = open_run.open_or_create(prepared, subject, batch.path / name)
                run.discard_partial()
                run.rest()
                opened.append((name, run))
            except KissError as error:
                outcomes[name] = Outcome(name, subject, None, "failed", error.message, error.hint)
                observer.notify(_refused(name, prepared, error))
        with as_output_error(batch.path / LOGS):
            inside.make_folder(LOGS)
        logs = batch.path / LOGS
        cache = cache_of(batch)
        try:
            if not (fail_fast and outcomes):
                _execute(opened, prepared, observer, cache, logs, fail_fast)
        except InterruptedRunError as error:
            hint = command("resume", batch.path)
            raise InterruptedRunError(error.message, hint, error.exit_code) from error
        finally:
            for name, run in opened:
                outcomes[name] = _outcome_of(name, batch.jobs[name], run)
            ordered = [outcomes[name] for name in batch.jobs]
            on_end(ordered)
            with contextlib.suppress(OSError):  # a full disk has been reported job by job
                write_summary(batch, ordered, totals(ordered).as_row())
            if prepared.options.report:
                pages.write_index(
                    batch.path, [(one.name, one.subject, one.run, one.error) for one in ordered]
                )
    return ordered


def _refused(name: str, prepared: Prepared, error: KissError) -> RunEvent:
    """What is told of a file that cannot be opened: the first node fails for it."""
    fields = {"message": error.message, "hint": error.hint, "move": "end", "log": ""}
    node = next(iter(prepared.graph.nodes))
    return RunEvent("failed", name, node, {"kind": "bad_input", "final": True, **fields})


def _outcome_of(name: str, subject: Subject, run: RunDirectory) -> Outcome:
    """As `outcome_of`, also where somebody has removed the record meanwhile."""
    try:
        return outcome_of(name, subject, run)
    except KissError as error:
        return Outcome(name, subject, None, "failed", error.message, error.hint)


def _execute(
    opened: Sequence[tuple[str, RunDirectory]],
    prepared: Prepared,
    observer: Observer,
    cache: CacheIndex | None,
    logs: Path,
    fail_fast: bool,
) -> None:
    """Run the jobs: all together where each picture goes through to its end, else `AT_ONCE` after
    each other, so that no more than those have what is going to go."""
    left = list(opened)
    at_once = AT_ONCE_KEPT if prepared.options.keep == "all" else AT_ONCE
    if goes_by_picture(prepared.graph):
        at_once = len(left)
    use_warm = prepared.workspace is None or prepared.workspace.use_warm
    workspace: AbstractContextManager[Workspace | None] = nullcontext(prepared.workspace)
    good = True
    try:
        while left and (good or not fail_fast):
            now, left = left[:at_once], left[at_once:]
            with workspace as place:
                part = replace(prepared, workspace=place)
                jobs = runs.execute(part, now, observer, cache, logs, fail_fast=fail_fast)
            good = all(job.succeeded for job in jobs)
            workspace = open_workspace(use_warm)  # one ends with the runner that has used it
    finally:
        for _, run in left:
            with contextlib.suppress(OSError, KissError):
                run.manifest.state = "interrupted"
                run.save()
                run.rest()


def _failed_attempt(run: RunDirectory) -> AttemptRow | None:
    """The failed node's last attempt, which says why and what to do next."""
    failed = (node for node in run.manifest.nodes.values() if node.state == "failed")
    return next((node.attempts[-1] for node in failed if node.attempts), None)


def totals(outcomes: Sequence[Outcome]) -> Totals:
    """What the batch took as a whole, on one machine."""
    return totals_of(outcome.go for outcome in outcomes if outcome.go)


def _cell(value: object) -> object:
    computed = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if computed else value


def _facts(run: RunDirectory) -> dict[str, Any]:
    """Without the seconds from the batch's beginning to this run's end, which say nothing of it."""
    with run.at_hand():
        return {key: fact for key, fact in summary.summary(run).items() if key != "seconds"}


def skipped_rows(batch: Batch) -> list[dict[str, str]]:
    """What of the folder or list is no input, and why, for --json and summary.json."""
    return [{"path": printable(one.path), "reason": one.reason} for one in batch.skipped]


def index_of(batch: Batch) -> str:
    """Path of the batch's page, or "" where it has none."""
    from orchestrator.report.gallery import may_write

    path = batch.path / result_folder.INDEX_HTML
    return str(path) if path.is_file() and may_write(Inside(batch.path)) else ""


def write_summary(
    batch: Batch, outcomes: Sequence[Outcome], more: Mapping[str, Any] | None = None
) -> None:
    """Write summary.json, with what is to stand in it besides, and summary.csv. Raises OSError.

    A text that a spreadsheet would compute (a picture called "=1+1.png") has a ' before it there.
    """
    rows = [outcome.row() for outcome in outcomes]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    head = {
        "written": time.time(),
        "good": sum(outcome.good for outcome in outcomes),
        "failed": sum(not outcome.good for outcome in outcomes),
        "jobs": rows,
        "skipped": skipped_rows(batch),
        **(more or {}),
    }
    facts = ((one.name, _facts(one.run)) for one in outcomes if one.run)
    write_long_json(batch.path / SUMMARY, head, "runs", facts)
    # A name that is no UTF-8 (b"caf\xe9.png") is shown as summary.json shows it.
    write_atomic(batch.path / SUMMARY_TABLE, text.getvalue().encode(errors="backslashreplace"))
