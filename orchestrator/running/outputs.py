"""What stages hand over: accepted, made safe on disk, entered in manifest and cache.

prepare  libraries that this takes, imported while the first processes come up
take     DONE: files in their place, so that readers may start at once
collect  fsync and digest are through: now the manifest says "done"
close    the job is over: its books, behind its last write
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

from orchestrator.record import stage_pictures
from orchestrator.record.cache import answers_to_its_key, key_of, key_parts
from orchestrator.record.manifest import AttemptRow, FileRecord
from orchestrator.running.attempts import Attempts, storage_failure
from orchestrator.running.durable_writer import Durable, DurableWriter
from orchestrator.running.jobs import Job
from orchestrator.running.session import Session
from orchestrator.running.session_events import JobDone, Previewed, StageFailure
from orchestrator.running.workload import Workload
from stages.contract import ContractError
from stages.process.protocol import Done, ProtocolError

Artifacts: TypeAlias = dict[str, list[FileRecord]]


class Outputs:
    """The way of outputs from a process to the record.

    close_job: called once for each job that is over, behind its last write to disk.
    """

    def __init__(
        self,
        work: Workload,
        attempts: Attempts,
        durable: DurableWriter,
        close_job: Callable[[Job], None],
    ) -> None:
        self._work = work
        self._attempts = attempts
        self._durable = durable
        self._close_job = close_job

    def prepare(self) -> None:
        """Import what checking and drawing takes, 60 ms, behind whatever comes next."""
        self._durable.draw(_import_libraries)

    def take(self, session: Session, happening: JobDone) -> None:
        """Accept what a process handed over, or fail the attempt."""
        node = session.node
        job = self._work.job(happening.message.job)
        row = self._attempts.close(job, session)
        if job.nodes[node.name].standing != "running":
            job.run.discard_partial(node.name)
            return  # its inputs turned out not to be safe on disk: the job has failed
        row.timings |= happening.message.timings
        try:
            artifacts = job.accept(node, happening.message.outputs, happening.contents)
        except (ProtocolError, ContractError) as error:
            session.stop()
            self._attempts.fail(job, node, row, StageFailure("internal", str(error)))
            return
        except OSError as error:
            failure = storage_failure(error, job.run.path / node.name)
            self._attempts.fail(job, node, row, failure)
            return
        self._record(job, session, row, artifacts, happening.message)
        self._durable.submit(job, node.name, artifacts)
        if self._work.runtime.previews:
            self._durable.draw(functools.partial(job.run.write_previews, node.name, node.outputs))

    def show(self, session: Session, happening: Previewed) -> None:
        """Write what a stage shows of its work, beside everything else."""
        run = self._work.job(happening.message.job).run
        write = functools.partial(stage_pictures.write, run, session.node.name, happening.message)
        self._durable.draw(write)

    def _record(
        self, job: Job, session: Session, row: AttemptRow, artifacts: Artifacts, message: Done
    ) -> None:
        """Readers may start; the manifest calls the node done when the disk has it."""
        name = session.node.name
        row.outcome = "done"
        record = job.run.manifest.nodes[name]
        record.attempts.append(row)
        record.artifacts = artifacts
        record.cached_from = ""
        record.degraded = "; ".join(filter(None, [session.attempt.degraded, *message.degraded]))
        record.warnings = list(message.warnings)
        job.enter(name, "made", reason="")
        job.nodes[name].fresh = True
        self._work.tell(
            "done",
            job,
            name,
            seconds=row.seconds,
            rss=row.peak_rss,
            vram=session.vram,
            degraded=record.degraded,
        )
        self._work.tell_warnings(job, name)

    def collect(self) -> bool:
        """Enter files that are safe on disk by now; whether there were any."""
        arrived = self._durable.collect()
        for durable in arrived:
            try:
                self._enter(durable)
            except OSError as error:
                failure = storage_failure(error, durable.job.run.path / durable.node)
                self._attempts.lose(durable.job, durable.node, failure)
        return bool(arrived)

    def _enter(self, durable: Durable) -> None:
        job, node = durable.job, self._work.graph.nodes[durable.node]
        record = job.run.manifest.nodes[durable.node]
        if job.nodes[durable.node].standing != "made":
            return  # its inputs were lost: a key made of them now would stand for other ones
        if durable.error is not None:
            raise durable.error
        record.artifacts = durable.artifacts
        record.key_parts = key_parts(node, job.run.manifest.seed, job.run)
        record.key = key_of(record.key_parts)
        if node.weights:
            record.weights = list(node.weights[record.attempts[-1].rung])
        job.enter(durable.node, "done")
        job.run.save()
        if self._work.cache is not None and answers_to_its_key(record):
            with contextlib.suppress(OSError):
                self._work.cache.add(record.key, job.run, durable.node)

    def close(self, jobs: Sequence[Job]) -> list[Job]:
        """Close those that are over and have nothing on its way to the disk any more."""
        closing = [job for job in jobs if job.over and not self._durable.holds(job)]
        for job in closing:
            job.closed = True
            self._durable.later(functools.partial(self._close_job, job))
        return closing


def _import_libraries() -> None:
    for name in ("numpy", "PIL.Image"):
        importlib.import_module(name)
