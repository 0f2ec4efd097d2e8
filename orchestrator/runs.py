"""From a request to a finished run directory: plan, run, finish."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from orchestrator import models, report
from orchestrator.artifacts import MANIFEST, RESULT, RunDirectory, as_output_error, run_lock
from orchestrator.cache import CacheIndex, demote_stale
from orchestrator.errors import (
    ConfigError,
    InterruptedRunError,
    KissError,
    RunFailedError,
    UsageError,
    command,
)
from orchestrator.files import digest_bytes
from orchestrator.graph import Graph
from orchestrator.jobs import Job
from orchestrator.manifest import InputRecord
from orchestrator.opening import (
    OUTPUTS,
    describe,
    new_run_path,
    open_or_create,
    read_mask,
    read_picture,
)
from orchestrator.plan import PlanRow, predict
from orchestrator.progress import Observer
from orchestrator.request import Prepared, require_card
from orchestrator.runner import Runner
from orchestrator.work import Work


def execute(
    prepared: Prepared,
    runs: Sequence[tuple[str, RunDirectory]],
    observer: Observer,
    cache: CacheIndex | None,
    log_folder: Path | None = None,
    only: str | None = None,
    fail_fast: bool = False,
) -> list[Job]:
    """Run jobs to their end and write their results. Each run must be locked by the caller.

    only: compute just this node, again, from what its run holds.
    Raises `InterruptedRunError`, and whatever else ends the whole thing, after saving manifests.
    """
    graph = Graph([prepared.graph.require(only)]) if only else prepared.graph
    forced = frozenset({only} if only else _forced(prepared))
    jobs = [Job(name, run, graph, prepared.whole, forced) for name, run in runs]
    work = Work(
        graph,
        jobs,
        prepared.settings.profile.runtime,
        prepared.cards,
        prepared.monitor,
        observer,
        cache,
        log_folder,
        fail_fast,
        prepared.budget,
    )
    for job in jobs:
        demote_stale(job.whole, job.run)
        job.run.manifest.state = "running"
        job.run.event("begin", profile=prepared.settings.name, seed=prepared.seed)
    try:
        Runner(work, prepared.workplace, _close_books).run()
    finally:
        for job in jobs:
            if not job.closed:
                _close_books(job)
            elif job.unsaved:
                with contextlib.suppress(OSError):
                    job.run.save()
    return jobs


def _forced(prepared: Prepared) -> set[str]:
    first = prepared.options.from_node
    return {first, *prepared.graph.descendants(first)} if first else set()


def require_upstream(prepared: Prepared, run: RunDirectory, cache: CacheIndex | None) -> None:
    """--from promises that nothing before it is computed: it must all be there."""
    first = prepared.options.from_node
    if not first:
        return
    rows = {row.node: row for row in predict(prepared.graph, run, prepared.seed, cache)}
    missing = sorted(n for n in prepared.graph.ancestors(first) if not rows[n].cached)
    if missing:
        raise ConfigError(
            f"--from {first}: {', '.join(missing)} would have to run too "
            f"({rows[missing[0]].reason})",
            "leave --from out, or name a run that has them with --output",
        )


def require_resources(prepared: Prepared, run: RunDirectory, cache: CacheIndex | None) -> None:
    """Nodes that will run need a card, or weights that are here: said before any stage starts.

    Raises `UsageError` or `MissingWeightsError`.
    """

    def will_run() -> set[str]:
        rows = predict(prepared.graph, run, prepared.seed, cache, frozenset(_forced(prepared)))
        return to_run(rows)

    require_card(prepared, will_run)
    models.require(prepared.graph, bool(prepared.cards), will_run)


def to_run(rows: Iterable[PlanRow]) -> set[str]:
    """Names of the nodes that a plan does not take from the cache."""
    return {row.node for row in rows if not row.cached}


def _close_books(job: Job) -> None:
    """Bring the manifest to its final state, assemble result/, save."""
    manifest = job.run.manifest
    for record in manifest.nodes.values():
        if record.state == "running":
            record.state = "pending"
    demote_stale(job.whole, job.run)
    manifest.finished, manifest.wall_seconds = time.time(), time.monotonic() - job.started
    manifest.error = job.error
    wanted = job.whole.until(manifest.until) if manifest.until else job.whole
    if all(manifest.nodes[n].state == "done" for n in wanted.nodes if n in manifest.nodes):
        manifest.state = "done"
    else:
        manifest.state = "failed" if job.error else "interrupted"
    job.run.discard_partial()
    try:
        report.write_result(job.run, job.sheet)
    except OSError as error:  # the record must be saved all the same
        job.run.event("no result", error=str(error))
        if manifest.state == "done":
            manifest.state = "failed"
            manifest.error = f"every node is done, but {RESULT}/ cannot be written: {error}"
    with contextlib.suppress(OSError):  # a full disk has been reported by then
        job.run.save()
    job.run.event("end", state=manifest.state, seconds=round(manifest.wall_seconds, 3))


def run_one(
    source: Path,
    output: Path | None,
    prepared: Prepared,
    observer: Observer,
    on_open: Callable[[RunDirectory], None] = lambda run: None,
) -> RunDirectory:
    """`run IMG`: raises `RunFailedError` or `InterruptedRunError` with the way to resume.

    on_open is told the run directory as soon as work begins in it.
    """
    read_picture(source, prepared.settings.profile.runtime.max_input_mib)  # before anything is made
    read_mask(prepared)
    root = Path(OUTPUTS)
    path = output or new_run_path(root, source)
    with contextlib.ExitStack() as stack:
        with as_output_error(path):
            path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(run_lock(path))
        known = (path / MANIFEST).is_file()
        run = open_or_create(prepared, source, path)
        try:
            cache = None if output else CacheIndex(root)
            if prepared.options.from_node:
                require_upstream(prepared, run, cache)
            require_resources(prepared, run, cache)
        except UsageError:
            if not known:
                shutil.rmtree(path, ignore_errors=True)
            raise
        on_open(run)
        finish_one(prepared, run, observer, cache)
    return run


def plan(prepared: Prepared, source: Path, output: Path | None) -> list[PlanRow]:
    """What `run_one` would do with this picture, without writing anything."""
    return predict_picture(prepared, source, output, None if output else CacheIndex(Path(OUTPUTS)))


def predict_picture(
    prepared: Prepared, source: Path, output: Path | None, cache: CacheIndex | None
) -> list[PlanRow]:
    """The plan for one picture, whose run directory (None: a new one) need not exist."""
    picture = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
    record = InputRecord(
        source=str(source), file="input.img", size=len(picture), digest=digest_bytes(picture)
    )
    known = None
    if output is not None and (output / MANIFEST).is_file():
        known = RunDirectory.open(output).manifest
    manifest = describe(prepared, record, known, read_mask(prepared)[1])
    run = RunDirectory(output or Path(OUTPUTS), manifest)
    force = frozenset(_forced(prepared))
    return list(predict(prepared.graph, run, prepared.seed, cache, force, prepared.budget))


def finish_one(
    prepared: Prepared,
    run: RunDirectory,
    observer: Observer,
    cache: CacheIndex | None,
    only: str | None = None,
) -> None:
    """Execute one locked run; failure is raised with what to do next."""
    run.check_input()
    try:
        jobs = execute(prepared, [(run.path.name, run)], observer, cache, only=only)
    except InterruptedRunError as error:
        raise InterruptedRunError(error.message, command("resume", run.path)) from error
    if not jobs[0].succeeded or run.manifest.state == "failed":
        raise failure_of(run)


def failure_of(run: RunDirectory) -> KissError:
    """The error that a failed run ends with: which node, what, and the way on."""
    for name, record in run.manifest.nodes.items():
        if record.state == "failed":
            last = record.attempts[-1] if record.attempts else None
            kind = last.outcome if last else "failed"
            cause = (last.message if last else "") or record.reason
            hint = last.hint if last else ""
            error = RunFailedError(f"{run.manifest.input.source}: {name} failed ({kind}): {cause}")
            if kind == "bad_input":
                error.exit_code = UsageError.exit_code
                error.hint = hint
            else:
                resume = command("resume", run.path)
                error.hint = f"{hint}; then: {resume}" if hint else resume
            return error
    return RunFailedError(
        f"{run.manifest.input.source}: {run.manifest.error or 'not finished'}",
        command("resume", run.path),
    )
