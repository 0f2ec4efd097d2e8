"""The end of a run: its record, its result, and what of it is kept."""

from __future__ import annotations

import contextlib
import time

from orchestrator.commands import pages
from orchestrator.record import keep, result_folder
from orchestrator.record.cache import CacheIndex, demote_stale
from orchestrator.record.run_directory import RESULT
from orchestrator.running.jobs import Job
from orchestrator.running.run_events import Observer, RunEvent


def is_settled(job: Job, cache: CacheIndex | None, observer: Observer) -> bool:
    """Whether a job is done as it is; if so, its nodes are done, and its record says so."""
    if not keep.is_settled(job.run, job.graph, job.force):
        return False
    for name in job.nodes:
        job.enter(name, "done")
        observer.notify(RunEvent("reused", job.name, name, {"source": "this run"}))
    job.closed = True
    manifest = job.run.manifest
    manifest.state, manifest.error = "done", ""
    manifest.finished, manifest.wall_seconds = time.time(), time.monotonic() - job.started
    with contextlib.suppress(OSError):
        job.run.save()
    let_go(job, cache)  # whatever was left when that was interrupted
    return True


def let_go(job: Job, cache: CacheIndex | None) -> None:
    """What was not to be kept goes; where it cannot, it stays."""
    try:
        keep.let_go(job.run, cache)
    except OSError as error:
        job.run.event("not let go", error=str(error))


def close_books(job: Job, report: bool = True, cache: CacheIndex | None = None) -> None:
    """Bring the manifest to its final state, assemble result/, save; then write the page, and let
    go of what is not to be kept. A page that has to wait is made of that, so it waits too."""
    manifest = job.run.manifest
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
    if report and not pages.all_measured(manifest):
        return
    if report:
        pages.write(job.run)
    let_go(job, cache)
