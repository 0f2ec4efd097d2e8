"""The beginning and the end of a run's books: its record, its result, and what of it is kept."""

from __future__ import annotations

import contextlib
import time

from orchestrator.commands import pages
from orchestrator.errors import RunRecordError
from orchestrator.planning.request import Prepared
from orchestrator.record import keep, result_folder
from orchestrator.record.cache import CacheIndex, demote_stale
from orchestrator.record.run_directory import RESULT
from orchestrator.running.jobs import Job
from orchestrator.running.run_events import Observer, RunEvent


def is_settled(job: Job, cache: CacheIndex | None, observer: Observer) -> bool:
    """Whether a job is done as it is; if so, its nodes are done, and its record says so."""
    try:
        with job.run.at_hand():
            if not keep.is_settled(job.run, job.graph, job.force):
                return False
            _settle(job, cache, observer)
    except RunRecordError:  # told when its turn comes
        return False
    job.run.rest()
    return True


def _settle(job: Job, cache: CacheIndex | None, observer: Observer) -> None:
    for name in job.nodes:
        job.enter(name, "done")
        observer.notify(RunEvent("reused", job.name, name, {"source": "this run"}))
    job.closed = job.at_rest = True
    manifest = job.run.manifest
    manifest.state, manifest.error = "done", ""
    manifest.finished, manifest.wall_seconds = time.time(), time.monotonic() - job.started
    with contextlib.suppress(OSError):
        job.run.save()
    let_go(job, cache)  # whatever was left when that was interrupted


def open_books(job: Job, prepared: Prepared, observer: Observer) -> None:
    """A job's turn has come: its record says that it runs, and what is computed. Where somebody has
    removed that meanwhile, the job fails alone."""
    try:
        job.begin()
    except RunRecordError as error:
        job.lose(error.message)
        told = {"kind": "internal", "message": error.message, "hint": error.hint, "move": "end"}
        fields = {**told, "final": True, "log": ""}
        observer.notify(RunEvent("failed", job.name, next(iter(job.nodes)), fields))
        return
    keep.begin_anew(job.run)
    demote_stale(job.whole, job.run)
    manifest = job.run.manifest
    manifest.state, manifest.no_report, manifest.no_export = "running", "", ""
    # `resume` and `stage` may have been given a --set: the record is of what is computed now.
    manifest.settings, manifest.sources = prepared.recorded, prepared.origins
    with contextlib.suppress(OSError):  # a full disk is told by the first node that meets it
        job.run.save()  # from now on result/ may change: nobody is to read "done" meanwhile
    job.run.event("begin", profile=prepared.settings.name, seed=manifest.seed)


def let_go(job: Job, cache: CacheIndex | None) -> None:
    """What was not to be kept goes; where it cannot, it stays."""
    try:
        keep.let_go(job.run, cache)
    except OSError as error:
        job.run.event("not let go", error=str(error))


def close_books(job: Job, report: bool = True, cache: CacheIndex | None = None) -> None:
    """Bring the manifest to its final state, assemble result/, save; then write the page, and let
    go of what is not to be kept. A page that has to wait is made of that, so it waits too. A record
    that waits for nothing rests on the disk from then on."""
    manifest = job.run.manifest
    measured = pages.all_measured(manifest)
    if manifest.kept != "all":  # they are closed, and what a result is made of has gone
        return
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
        result_folder.write_result(job.run, job.sheet)
    except OSError as error:  # the record must be saved all the same
        job.run.event("no result", error=str(error))
        if manifest.state == "done":
            manifest.state = "failed"
            manifest.error = f"every node is done, but {RESULT}/ cannot be written: {error}"
    with contextlib.suppress(OSError):  # a full disk has been reported by then
        job.run.save()
    job.run.event("end", state=manifest.state, seconds=round(manifest.wall_seconds, 3))
    if report and not measured:
        return
    if report:
        write_page(job)
    let_go(job, cache)
    job.at_rest = measured
    if measured:
        job.run.rest()


def close_early(job: Job, report: bool, cache: CacheIndex | None) -> None:
    """The same for a job that was cut off, or whose turn never came."""
    with contextlib.suppress(RunRecordError):  # gone
        job.begin()
        close_books(job, report, cache)


def close_late(job: Job, report: bool, cache: CacheIndex | None) -> None:
    """What had to wait for the measurements, which come when the last process has gone."""
    if job.at_rest:
        return
    with contextlib.suppress(RunRecordError):  # gone, if its turn never came
        if job.unsaved:
            with contextlib.suppress(OSError):
                job.run.save()
        if report and pages.is_missing(job.run):
            write_page(job)
        let_go(job, cache)
    job.run.rest()


def write_page(job: Job) -> None:
    """Write a run's page; the record has why there is none."""
    pages.write(job.run)
    if job.run.manifest.no_report:
        with contextlib.suppress(OSError):
            job.run.save()
