"""From a request to a finished run directory: plan, run, finish."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from orchestrator.commands import export
from orchestrator.commands.closing import (
    close_books,
    close_early,
    close_late,
    is_settled,
    open_books,
)
from orchestrator.commands.given import Given, read_given
from orchestrator.commands.open_run import (
    cache_beside,
    describe,
    new_run_path,
    open_or_create,
)
from orchestrator.commands.subject import Subject
from orchestrator.errors import (
    ConfigError,
    InterruptedRunError,
    KissError,
    RunFailedError,
    UsageError,
    command,
)
from orchestrator.pipeline.graph import Graph
from orchestrator.planning.plan import PlanRow, predict
from orchestrator.planning.request import Prepared
from orchestrator.planning.shortages import require_card
from orchestrator.record import belongings
from orchestrator.record.cache import CacheIndex
from orchestrator.record.run_directory import MANIFEST, OUTPUTS, RunDirectory
from orchestrator.running.jobs import Job
from orchestrator.running.loop import Runner
from orchestrator.running.run_events import Observer
from orchestrator.running.workload import Workload
from orchestrator.system.atomic_files import digest_file
from orchestrator.system.folders import NewFolder
from orchestrator.system.locks import as_output_error, run_lock
from orchestrator.system.stop_signals import STOP
from orchestrator.weights import needs


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

    only: compute just this node, again, from what its run holds. A run of which only the result is
    left, and that is what it would make, is done as it is.
    Raises `InterruptedRunError`, and whatever else ends the whole thing, after saving manifests.
    """
    graph = Graph([prepared.graph.require(only)]) if only else prepared.graph
    forced = frozenset({only} if only else _forced(prepared))
    jobs = [Job(name, run, graph, prepared.whole, forced) for name, run in runs]
    to_do = [job for job in jobs if not is_settled(job, cache, observer)]
    if not to_do:
        _export(jobs, prepared)
        return jobs
    work = Workload(
        graph,
        to_do,
        prepared.settings.profile.runtime,
        prepared.cards,
        prepared.monitor,
        observer,
        cache,
        log_folder,
        fail_fast,
        log_folder is None and prepared.settings.profile.runtime.previews,
        prepared.budget,
    )
    report = prepared.options.report
    begin = functools.partial(open_books, prepared=prepared, observer=observer)
    close = functools.partial(close_books, report=report, cache=cache)
    try:
        Runner(work, prepared.workspace, close, begin).run()
    finally:
        for job in to_do:
            if not job.closed:
                close_early(job, report, cache)
            close_late(job, report, cache)
    _export(jobs, prepared)
    return jobs


def _export(jobs: Iterable[Job], prepared: Prepared) -> None:
    """Write what other formats were asked for; it is made of what lies in the results."""
    for job in jobs if prepared.options.formats else ():
        with job.run.at_hand():
            export.complete(job.run)


def _forced(prepared: Prepared) -> set[str]:
    first = prepared.options.from_node
    return {first, *prepared.graph.descendants(first)} if first else set()


def require_upstream(prepared: Prepared, run: RunDirectory, cache: CacheIndex | None) -> None:
    """--from promises that nothing before it is computed: it must all be there."""
    first = prepared.options.from_node
    if not first:
        return
    found = predict(prepared.graph, run, cache, frozenset(_forced(prepared)))
    rows = {row.node: row for row in found}
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
        rows = predict(prepared.graph, run, cache, frozenset(_forced(prepared)))
        return to_run(rows)

    require_card(prepared, will_run)
    needs.require(prepared.graph, bool(prepared.cards), will_run, run.manifest.given)


def to_run(rows: Iterable[PlanRow]) -> set[str]:
    """Names of the nodes that a plan does not take from the cache."""
    return {row.node for row in rows if not row.cached}


@contextlib.contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Name the way on when Ctrl-C comes before or behind the runner, which has its own for it."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted", command("resume", path), STOP.exit_code) from None


def run_one(
    subject: Subject,
    output: Path | None,
    prepared: Prepared,
    observer: Observer,
    on_open: Callable[[RunDirectory], None] = lambda run: None,
) -> RunDirectory:
    """`run`: raises `RunFailedError` or `InterruptedRunError` with the way to resume.

    on_open is told the run directory as soon as work begins in it.
    """
    root = Path(OUTPUTS)
    cache = cache_beside(output or root / "new")
    given = read_given(prepared, subject)  # refuses before anything is made
    imagined = _imagined_run(prepared, subject, given, output)
    require_upstream(prepared, imagined, cache)
    require_resources(prepared, imagined, cache)
    above = [] if root.exists() else [root]
    path = output or new_run_path(root, subject.name)
    fresh = [path, *above] if output is None else []
    with resumable(path), contextlib.ExitStack() as stack:
        with as_output_error(path):
            folder = stack.enter_context(NewFolder(path, fresh))
        stack.enter_context(run_lock(path))
        run = open_or_create(prepared, subject, path, given)
        folder.keep()
        source = subject.source
        own = source is not None and source.resolve() == run.input_path.resolve()
        unused = not run.manifest.nodes and not own
        run.discard_partial()
        on_open(run)
        try:
            finish_one(prepared, run, observer, cache)
        except RunFailedError as error:
            if error.exit_code == UsageError.exit_code and unused and not _computed(run):
                belongings.remove(run)  # no picture: nothing to go on with
                folder.take_back()
            raise
    return run


def begin(prepared: Prepared, subject: Subject, root: Path) -> RunDirectory:
    """Make a new run directory in `root` as `run_one` would, and start nothing: `resume` carries it
    out, whenever that may be. Raises as `run_one`, and leaves nothing of what it refuses."""
    cache = cache_beside(root / "new")
    given = read_given(prepared, subject)
    require_resources(prepared, _imagined_run(prepared, subject, given, None), cache)
    path = new_run_path(root, subject.name)
    with as_output_error(path), NewFolder(path, [path]) as folder:
        with run_lock(path):
            run = open_or_create(prepared, subject, path, given)
        folder.keep()
    return run


def _computed(run: RunDirectory) -> bool:
    return any(node.state == "done" for node in run.manifest.nodes.values())


def plan(prepared: Prepared, subject: Subject, output: Path | None) -> list[PlanRow]:
    """What `run_one` would do with this subject, without writing anything."""
    return predict_one(prepared, subject, output, cache_beside(output or Path(OUTPUTS) / "new"))


def replaced(prepared: Prepared, subject: Subject, output: Path | None) -> list[str]:
    """Settings by which a finished run of a subject in this directory differs from the one that is
    asked for, as its result will be replaced: "seed", "isomer.stage2_steps"; of another profile
    just that. No seed where nothing depends on it, and none of another subject's run, which will
    be refused."""
    if output is None or not (output / MANIFEST).is_file():
        return []
    known = RunDirectory.open(output).manifest
    if known.state != "done" or known.until:
        return []
    source = subject.source
    if source is not None and source.is_file() and digest_file(source) != known.input.digest:
        return []
    if known.profile != prepared.settings.name:
        return ["profile"]
    changed = set(_differing(known.settings, prepared.recorded))
    return sorted(changed if prepared.graph.uses_seed else changed - {"seed"})


def _differing(old: object, new: object, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differing(old.get(key), new.get(key), (*path, str(key)))
    elif old != new:
        yield ".".join(name for name in path if name not in ("nodes", "params"))


def predict_one(
    prepared: Prepared, subject: Subject, output: Path | None, cache: CacheIndex | None
) -> list[PlanRow]:
    """The plan for one subject, whose run directory (None: a new one) need not exist."""
    known = None
    if output is not None and (output / MANIFEST).is_file():
        known = RunDirectory.open(output).manifest.given
    given = read_given(prepared, subject, known)
    run = _imagined_run(prepared, subject, given, output)
    force = frozenset(_forced(prepared))
    return list(predict(prepared.graph, run, cache, force, prepared.budget))


def _imagined_run(
    prepared: Prepared, subject: Subject, given: Given, output: Path | None
) -> RunDirectory:
    """The run of a subject as it would begin, in memory only. Raises `RunRecordError`."""
    known = None
    if output is not None and (output / MANIFEST).is_file():
        known = RunDirectory.open(output).manifest
    manifest = describe(prepared, subject, given.records, known)
    return RunDirectory(output or Path(OUTPUTS), manifest)


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
        hint = command("resume", run.path)
        raise InterruptedRunError(error.message, hint, error.exit_code) from error
    if not jobs[0].succeeded or run.manifest.state == "failed":
        raise failure_of(run)
    if run.manifest.no_export:
        again = command("export", run.path, "--format", ",".join(run.manifest.formats))
        raise RunFailedError(run.manifest.no_export, f"the run is done; to try again: {again}")


def failure_of(run: RunDirectory) -> KissError:
    """The error that a failed run ends with: which node, what, and the way on."""
    for name, record in run.manifest.nodes.items():
        if record.state == "failed":
            last = record.attempts[-1] if record.attempts else None
            kind = last.outcome if last else "failed"
            cause = (last.message if last else "") or record.reason
            hint = last.hint if last else ""
            error = RunFailedError(f"{run.manifest.input.title}: {name} failed ({kind}): {cause}")
            if kind == "bad_input":
                error.exit_code = UsageError.exit_code
                error.hint = hint
            else:
                resume = command("resume", run.path)
                error.hint = f"{hint}; then: {resume}" if hint else resume
            return error
    return RunFailedError(
        f"{run.manifest.input.title}: {run.manifest.error or 'not finished'}",
        command("resume", run.path),
    )
