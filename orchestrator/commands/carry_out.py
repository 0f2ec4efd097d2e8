"""A run, a batch and a resumption from first to last, for whoever asks: the command line and Python
are two shells over these functions, and so cannot differ.

What each needs is imported behind `prepare`, which gives the warm template something to do: both
import side by side then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import OutputError, RunFailedError, UsageError, command
from orchestrator.planning.options import Options, Start
from orchestrator.planning.request import Prepared, prepare, prepared_for
from orchestrator.processes.workspace import Workspace
from orchestrator.running.run_events import Observer

if TYPE_CHECKING:
    from orchestrator.commands.batch import Outcome
    from orchestrator.commands.batch_directory import Batch
    from orchestrator.commands.batch_inputs import BatchInputs
    from orchestrator.commands.candidate_scores import Candidate
    from orchestrator.commands.pictures import Skipped
    from orchestrator.commands.shards import Layout
    from orchestrator.commands.subject import Subject
    from orchestrator.record.run_directory import RunDirectory

MANY = 500
"""Jobs of a batch. A sketch's result takes 17 MB, 9 of them without mesh.obj: so a thousand
take 9 GB, and 500 no more."""


@dataclass(frozen=True)
class Shell:
    """Who asks, and is told.

    found       what a batch is of, before anything is decided
    view        opens what watches the work, when all is decided and nothing made: of a request and
                the batch that it is for
    opened      a run directory in which work has begun
    told        the outcomes of a batch, however it ends
    scored      the candidates of one subject, all of them done
    """

    view: Callable[[Prepared, Batch | None], AbstractContextManager[Observer]]
    opened: Callable[[RunDirectory], None] = lambda run: None
    told: Callable[[Batch, list[Outcome]], None] = lambda made, outcomes: None
    scored: Callable[[Batch, Sequence[Candidate]], None] = lambda made, found: None
    found: Callable[[BatchInputs], None] = lambda found: None


def run(
    subject: Subject, output: Path | None, options: Options, workspace: Workspace, shell: Shell
) -> RunDirectory:
    """One picture, mesh or text. Raises what `run_one` raises."""
    prepared = prepare(replace(options, start=subject.start), workspace)
    with shell.view(prepared, None) as observer:
        from orchestrator.commands import run as runs

        return runs.run_one(subject, output, prepared, observer, shell.opened)


def candidates(
    subject: Subject, output: Path | None, options: Options, workspace: Workspace, shell: Shell
) -> list[Outcome]:
    """One subject, with as many seeds as the options say; the best one's result lies on top.

    Raises what `candidates.create` and `candidates.execute` raise.
    """
    from orchestrator.commands import candidates as choice

    prepared = prepare(replace(options, start=subject.start), workspace)
    count = prepared.options.candidates
    made = choice.create(prepared, subject, count, output, prepared.options)
    try:
        return _execute(made, prepared, False, shell)
    except RunFailedError as error:
        if error.exit_code == UsageError.exit_code and output is None:
            _take_back(made)
        raise


def _take_back(made: Batch) -> None:
    """Remove a batch directory in which nothing has been computed."""
    from orchestrator.commands import clean

    chosen = clean.choose(made.path, lambda run: True, intermediate=False)
    states = [node.state for run in chosen.runs for node in run.manifest.nodes.values()]
    if "done" not in states:
        clean.remove(chosen)


def resume(path: Path, options: Options, workspace: Workspace, shell: Shell) -> RunDirectory:
    """Go on with a run. Raises what `finish_one` raises."""
    from orchestrator.commands import run as runs
    from orchestrator.commands.open_run import cache_beside
    from orchestrator.record.run_directory import RunDirectory

    run = RunDirectory.open(path)
    with runs.resumable(path):
        prepared = prepared_for(run, options, workspace)
        cache = cache_beside(path)
        runs.require_resources(prepared, run, cache)
        with run.locked():
            run.check_input()  # before the view, which shows what is done as done
            with shell.view(prepared, None) as observer:
                shell.opened(run)
                runs.finish_one(prepared, run, observer, cache)
    return run


@dataclass(frozen=True)
class BatchRequest:
    """A folder or list, as it was named.

    output   None: a new directory; go_on: with the batch that is in it
    shard    "I/N": part I of N alone, counted from 0, in a directory of its own below `output`,
             which is gone on with if it is there
    """

    source: Path
    glob: str | None = None
    recursive: bool = False
    output: Path | None = None
    go_on: bool = False
    fail_fast: bool = False
    shard: str | None = None


def batch(
    request: BatchRequest,
    options: Options,
    keep_is_open: bool,
    open_workspace: Callable[[], AbstractContextManager[Workspace]],
    shell: Shell,
) -> list[Outcome]:
    """Every picture or mesh of a folder, or every line of a list.

    keep_is_open: nobody said what is to stay of each run, so that their number decides.
    Raises `UsageError`s before anything is written, and `InterruptedRunError`.
    """
    from orchestrator.commands import batch as batches
    from orchestrator.commands import batch_directory, batch_inputs

    if request.shard is not None:
        return _shard(request, request.shard, options, keep_is_open, open_workspace, shell)
    output = request.output
    if request.go_on and output is None:
        raise UsageError("--resume needs --output BATCH_DIR", "or: kiss3d-orchestrate resume DIR")
    found = batch_inputs.find_inputs(
        request.source, request.glob, request.recursive, options.profile
    )
    shell.found(found)
    options = _for_batch(options, found.start, len(found.listed), keep_is_open)
    with open_workspace() as workspace:
        prepared = prepare(options, workspace)  # refuses before anything is written
        known = None
        if request.go_on and output is not None and batch_directory.is_batch(output):
            known = batch_directory.load(output)
            if known.options.candidates:
                raise OutputError(
                    f"{output} holds candidates of one subject", command("resume", output)
                )
        subjects = [one.subject for one in found.listed]
        with _telling(found.skipped):
            batches.require_resources(prepared, subjects, known, output)
        if known is not None:
            made = batch_directory.join(known, found, options)
        else:
            made = batch_directory.new_batch(found, output, options)
        return _execute(made, prepared, request.fail_fast, shell)


def _for_batch(options: Options, start: Start, jobs: int, keep_is_open: bool) -> Options:
    """The options of a batch of so many jobs."""
    options = replace(options, start=start)
    if keep_is_open:
        options = replace(options, keep="mesh" if jobs > MANY else "result")
    return options


@contextlib.contextmanager
def _telling(skipped: Sequence[Skipped]) -> Iterator[None]:
    """Where the request is refused, say too what was no input of it."""
    from orchestrator.commands import pictures

    try:
        yield
    except UsageError as error:
        if skipped:
            error.message += f"\nskipped besides: {pictures.listed(skipped)}"
        raise


def _shard(
    request: BatchRequest,
    text: str,
    options: Options,
    keep_is_open: bool,
    open_workspace: Callable[[], AbstractContextManager[Workspace]],
    shell: Shell,
) -> list[Outcome]:
    """One shard: the list is that of the shard that came first, whatever has come since.

    Raises what `batch` raises.
    """
    from orchestrator.commands import batch as batches
    from orchestrator.commands import batch_directory, shards

    shard, output = shards.parse_shard(text), request.output
    if output is None:
        raise UsageError("--shard needs --output DIR", "the same one for all shards")
    with open_workspace() as workspace:
        layout, prepared = cut(
            request, lambda _, __: shard.count, options, keep_is_open, workspace, shell.found
        )
        part = layout.part(shard, prepared.options)
        begun = batch_directory.is_batch(part.path)
        with _telling(layout.whole.skipped):
            batches.require_resources(
                prepared, list(part.jobs.values()), part if begun else None, part.path
            )
        part = shards.settle(layout).part(shard, prepared.options)
        if not part.jobs:
            shell.told(part, [])
            return []
        shards.open_part(part)
        return _execute(part, prepared, request.fail_fast, shell)


def cut(
    request: BatchRequest,
    count: Callable[[Prepared, int], int],
    options: Options,
    keep_is_open: bool,
    workspace: Workspace | None,
    tell: Callable[[BatchInputs], None],
) -> tuple[Layout, Prepared]:
    """A batch cut into shards, as it was begun or as it would be: nothing is written yet.

    count  how many of so many jobs
    tell   what it is of, where it begins

    Raises `UsageError`s, also where it was begun on other terms.
    """
    from orchestrator.commands import batch_directory, batch_inputs, shards

    assert request.output is not None
    known = shards.load(request.output) if shards.is_sharded(request.output) else None
    if known is not None:
        whole, start = known.whole, known.whole.options.start
    else:
        found = batch_inputs.find_inputs(
            request.source, request.glob, request.recursive, options.profile
        )
        tell(found)
        named = batch_directory.job_names(found.listed)
        whole = batch_directory.Batch(request.output, named, options, found.skipped)
        start = found.start
    options = _for_batch(options, start, len(whole.jobs), keep_is_open)
    prepared = prepare(options, workspace)
    number = count(prepared, len(whole.jobs))
    terms = shards.terms_of(number, request.source, request.glob, request.recursive, prepared)
    layout = known or shards.Layout(replace(whole, options=options), terms)
    layout.require(terms)
    return layout, prepared


def resume_batch(path: Path, options: Options, workspace: Workspace, shell: Shell) -> list[Outcome]:
    """Go on with a batch: the recorded request, with what these options add."""
    from orchestrator.commands import batch as batches
    from orchestrator.commands import batch_directory

    known = batch_directory.load(path)
    merged = replace(
        known.options,
        device=known.options.device if options.device == "auto" else options.device,
        sets=(*known.options.sets, *options.sets),
        target_vram=options.target_vram or known.options.target_vram,
        host_ram=options.host_ram or known.options.host_ram,
        report=known.options.report and options.report,
    )
    made = replace(known, options=merged)
    prepared = prepare(merged, workspace)
    if not merged.candidates:
        batches.require_resources(prepared, (), made, path)
    return _execute(made, prepared, False, shell)


def _execute(made: Batch, prepared: Prepared, fail_fast: bool, shell: Shell) -> list[Outcome]:
    from orchestrator.commands import batch as batches
    from orchestrator.commands import run as runs

    if prepared.options.candidates:
        from orchestrator.commands import candidates as choice

        with runs.resumable(made.path), shell.view(prepared, made) as observer:
            found = choice.execute(made, prepared, observer)
        ended = [one.outcome for one in found]
        shell.told(made, ended)
        shell.scored(made, found)
        return ended
    outcomes: list[Outcome] = []
    try:
        with runs.resumable(made.path), shell.view(prepared, made) as observer:
            batches.execute(made, prepared, observer, fail_fast, outcomes.extend)
    finally:
        if outcomes:
            shell.told(made, outcomes)
    return outcomes
