"""One node's attempts at one job: a row of the manifest each, and what follows when one fails.

open     the job is given to a process
close    it came back, done or failed
fail     recovery -> the same rung again, the next one, or the end of the job
lose     its files turned out not to be safe on disk: the end of the job
settle   the process is gone, and the card's memory has been looked at
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.pipeline.graph import Node
from orchestrator.record.manifest import AttemptRow
from orchestrator.running.jobs import Job
from orchestrator.running.recovery import decide
from orchestrator.running.session import Session
from orchestrator.running.session_events import JobFailed, StageFailure
from orchestrator.running.workload import Workload
from orchestrator.system.gpu import Release
from orchestrator.system.text import printable
from stages.contract.failures import classify


def storage_failure(error: OSError, folder: Path) -> StageFailure:
    """The failure of a job whose files cannot be written. folder: where they belong."""
    failure = classify(error)
    file = error.filename or folder
    told = f"cannot write the result: {printable(Path(file))}: {error.strerror or error}"
    hint = failure.hint if failure.kind != "internal" else "check the disk and whose folder that is"
    return StageFailure(failure.kind, told, hint)


class Attempts:
    """Rows by session on a card, whose VRAM verdict belongs to all jobs that it served.

    open_jobs  those that have begun and are not closed; whoever owns the list moves jobs
    cancelled  a job has failed for good, and with `fail_fast` that ends the others
    """

    def __init__(self, work: Workload, open_jobs: Sequence[Job]) -> None:
        self._work = work
        self._open_jobs = open_jobs
        self._rows: dict[Session, list[tuple[Job, AttemptRow]]] = {}
        self.cancelled = False

    def open(self, job: Job, session: Session) -> AttemptRow:
        """A new row for one job in one process; the load's times stand in its first."""
        row = AttemptRow(
            rung=session.rung,
            device=session.card.name or "cuda" if session.card else "cpu",
            card=session.card.visible if session.card else "",
            dtype=session.attempt.dtype,
            params=dict(session.attempt.params),
            warm=session.process.warm,
            cold_reason=session.process.cold_reason,
            pid=session.process.pid,
            log=printable(session.log),
            started=time.time(),
            timings=dict(session.timings) if session.served == 0 else {},
        )
        if session.card is None:
            row.vram = Release("no gpu used").as_row()
            return row
        if expected := session.node.predictions.get(session.rung):
            row.predicted = expected.as_row()
        self._rows.setdefault(session, []).append((job, row))
        return row

    def close(self, job: Job, session: Session) -> AttemptRow:
        """The row of the job in flight, with its duration and the process's peak memory."""
        progress = job.nodes[session.node.name]
        row = progress.attempt or self.open(job, session)
        progress.attempt = None
        row.seconds = time.time() - row.started
        row.peak_rss = session.peak_rss
        return row

    def settle(self, session: Session, release: Release) -> None:
        """The process is gone: what was measured goes into all its rows."""
        for job, row in self._rows.pop(session, []):
            row.vram = release.as_row()
            job.unsaved = True

    def failed(self, session: Session, happening: JobFailed) -> None:
        """A job failed in a process, or the load did, for which several jobs may have waited."""
        if not happening.job:
            self._load_failed(session, happening.failure)
            return
        job = self._work.job(happening.job)
        row = self.close(job, session)
        if job.nodes[session.node.name].standing == "running":
            self.fail(job, session.node, row, happening.failure)
        else:  # its inputs turned out not to be safe on disk: the job has failed
            job.run.discard_partial(session.node.name)

    def _load_failed(self, session: Session, failure: StageFailure) -> None:
        """One try of each job that is ready. A job that still waits for its inputs has not been
        tried, and may find its result in the cache: it goes to the next rung where this one does
        not work here, or waits on, and no process is started for it ahead of time again."""
        node = session.node
        for job in self._open_jobs:
            progress = job.nodes[node.name]
            if progress.rung != session.rung or progress.standing not in ("waiting", "ready"):
                continue
            if progress.standing == "ready":
                progress.tries += 1
            elif decide(failure.kind, session.rung, 0, node.config.attempts).action != "next_rung":
                progress.ahead = False
                continue
            row = self.open(job, session)
            row.peak_rss = session.peak_rss
            self.fail(job, node, row, failure)

    def fail_unstarted(self, job: Job, node: Node, device: str, failure: StageFailure) -> None:
        """A job's try ended before there was a process to give it to."""
        row = AttemptRow(rung=job.nodes[node.name].rung, device=device, started=time.time())
        self.fail(job, node, row, failure)

    def fail(self, job: Job, node: Node, row: AttemptRow, failure: StageFailure) -> None:
        """Note the failure, decide what follows and put the job where it goes on."""
        progress = job.nodes[node.name]
        move = decide(failure.kind, progress.rung, max(1, progress.tries), node.config.attempts)
        row.outcome, row.message, row.hint = failure.kind, failure.message, failure.hint
        row.move = str(move)
        job.run.manifest.nodes[node.name].attempts.append(row)
        job.run.discard_partial(node.name)
        if move.action == "end":
            self._end(job, node.name, failure)
        else:
            if move.action == "next_rung":
                progress.rung, progress.tries = move.rung, 0
            back = "ready" if progress.standing == "running" else progress.standing
            job.enter(node.name, back)
        self._tell(job, node.name, failure, str(move), move.action == "end", row.log)
        with contextlib.suppress(OSError):  # a full disk is being reported already
            job.run.save()

    def lose(self, job: Job, node: str, failure: StageFailure) -> None:
        """What a finished attempt made cannot be kept: the end of the job."""
        record = job.run.manifest.nodes[node]
        record.artifacts = {}
        row = record.attempts[-1]
        row.outcome, row.message, row.hint = failure.kind, failure.message, failure.hint
        row.move = "end"
        self._end(job, node, failure)
        self._tell(job, node, failure, row.move, final=True, log=row.log)

    def _end(self, job: Job, node: str, failure: StageFailure) -> None:
        job.fail(node, failure.message)
        self.cancelled = self.cancelled or self._work.fail_fast

    def _tell(
        self, job: Job, node: str, failure: StageFailure, move: str, final: bool, log: str
    ) -> None:
        self._work.tell(
            "failed",
            job,
            node,
            kind=failure.kind,
            message=failure.message,
            hint=failure.hint,
            move=move,
            final=final,
            log=log,
        )
