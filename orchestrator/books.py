"""The attempt rows of the manifest: opened when a job is given out, closed when it comes back,
settled when its process is gone and the card's memory has been looked at."""

from __future__ import annotations

import time

from orchestrator.files import printable
from orchestrator.gpu import Release
from orchestrator.jobs import Job
from orchestrator.manifest import AttemptRow
from orchestrator.session import Session


class AttemptBook:
    """Rows by session. A session's load and VRAM verdict belong to all jobs that it served."""

    def __init__(self) -> None:
        self._rows: dict[int, list[tuple[Job, AttemptRow]]] = {}

    def open(self, job: Job, session: Session) -> AttemptRow:
        """A new row for one job in one process; the load's times stand in its first."""
        row = AttemptRow(
            rung=session.rung,
            device=session.card.name or "cuda" if session.card else "cpu",
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
        elif expected := session.node.predictions.get(session.rung):
            row.predicted = expected.as_row()
        self._rows.setdefault(id(session), []).append((job, row))
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
        for job, row in self._rows.pop(id(session), []):
            row.vram = release.as_row()
            job.unsaved = job.unsaved or session.card is not None
