"""The central loop: jobs x nodes over resource leases, stage-major.

    advance   waiting -> ready, or taken from the cache
    assign    staffing: processes, cards, loads, jobs
    wait      for messages, exits, signals and deadlines: one blocking call
    handle    deliveries: done -> accepted, made durable behind the next stage's computation
              attempts:   failed -> the same rung again, the next one, or the end of the job

What each step does lies in the module of its name; here is only the order of the steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from orchestrator import clock
from orchestrator.attempts import Attempts
from orchestrator.cache import take_over
from orchestrator.deliveries import Deliveries
from orchestrator.durable import DurableWriter
from orchestrator.errors import InterruptedRunError
from orchestrator.graph import Node
from orchestrator.happenings import (
    Gone,
    Happening,
    Imported,
    JobDone,
    JobFailed,
    Loaded,
    Progressed,
)
from orchestrator.jobs import Job
from orchestrator.process_hub import ProcessHub
from orchestrator.session import Session
from orchestrator.signals import STOP
from orchestrator.staffing import Staff
from orchestrator.work import Work
from orchestrator.workplace import Workplace, open_workplace

_IDLE_WAIT = 1.0
_HURRY_SECONDS = 0.2
"""From the second stop signal until processes that will not end are left to the hub's end."""


class Runner:
    """Carry out `work`. Use once.

    workplace  where the processes live; None opens one, with warm starts
    close_job  called once for each job that is over, behind its last write to disk
    """

    def __init__(
        self,
        work: Work,
        workplace: Workplace | None = None,
        close_job: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._work = work
        self._workplace = workplace
        self._close_job = close_job
        self._open = list(work.jobs)
        self._changed = True
        self._signals = STOP
        self._told_to_stop = False
        self._give_up_at = float("inf")
        self._durable = DurableWriter(self._signals.poke)
        self._attempts = Attempts(work)
        self._deliveries = Deliveries(work, self._attempts, self._durable, close_job)

    def run(self) -> None:
        """Return when every job is over. Raises `InterruptedRunError` when told to stop."""
        self._advance()
        if self._work.over:
            for job in self._work.jobs:  # everything was there already: no process needed
                self._close_job(job)
            return
        runtime = self._work.runtime
        with contextlib.ExitStack() as stack:
            workplace = self._workplace or stack.enter_context(open_workplace())
            stack.enter_context(self._signals.counted())
            stack.enter_context(self._durable)
            hub = stack.enter_context(
                ProcessHub(
                    workplace,
                    runtime.heartbeat_interval,
                    runtime.inline_max_bytes,
                    runtime.heartbeat_timeout,
                )
            )
            hub.watch(self._signals.fileno())
            self._loop(
                hub,
                Staff(self._work, self._open, self._attempts, self._durable, hub, workplace.folder),
            )
        if self._signals.count and not self._work.over:
            raise InterruptedRunError(
                "stopped before the end; nothing finished is lost",
                exit_code=self._signals.exit_code,
            )

    def _loop(self, hub: ProcessHub, staff: Staff) -> None:
        self._changed = staff.assign()
        self._deliveries.prepare()
        while not self._finished(staff):
            if self._changed:
                self._changed = not self._stopping and staff.assign()
            for event in hub.wait(self._timeout(staff)):
                session = staff.session_of(event.process)
                if session is not None:
                    self._handle(staff, session, session.on_event(event))
            for session in list(staff.sessions):
                self._handle(staff, session, session.tick())
            self._changed |= self._deliveries.collect()
            self._pass_on_stop(staff)
            if self._changed:
                self._advance()
                for job in self._deliveries.close(self._open):
                    self._open.remove(job)

    @property
    def _stopping(self) -> bool:
        return self._attempts.cancelled or self._signals.count > 0

    def _finished(self, staff: Staff) -> bool:
        over = self._stopping or all(job.over for job in self._open)
        if over:
            for session in staff.sessions:
                session.stop()
        if time.monotonic() >= self._give_up_at:
            return True
        return over and not staff.sessions and not self._durable.busy

    def _timeout(self, staff: Staff) -> float:
        if self._changed:
            return 0.0
        deadlines = [session.next_deadline() for session in staff.sessions]
        return max(0.0, min([*deadlines, clock.now() + _IDLE_WAIT]) - clock.now())

    def _pass_on_stop(self, staff: Staff) -> None:
        self._signals.drain()
        if self._signals.count and not self._told_to_stop:
            self._told_to_stop = True
            self._work.tell("stopping", None, "", signal=self._signals.first.name)
        if self._signals.count > 1:
            self._give_up_at = min(self._give_up_at, time.monotonic() + _HURRY_SECONDS)
        for session in staff.sessions:
            if self._signals.count > 1:
                session.kill()
            elif self._stopping:
                session.terminate()

    def _advance(self) -> None:
        """Move each waiting node on whose upstream is settled."""
        if self._stopping:
            return
        graph = self._work.graph
        for job in self._open:
            for name, node in graph.nodes.items():
                settled = job.standing(graph.upstream(name)) <= {"done"}
                if job.nodes[name].standing == "waiting" and settled:
                    job.nodes[name].standing = "done" if self._reuse(job, node) else "ready"

    def _reuse(self, job: Job, node: Node) -> bool:
        """A node's inputs are there: is its output there too?"""
        # With a fresh input nothing can be known of the key until that is digested, which would
        # make this node wait for the disk; and its key is new anyway.
        fresh = any(job.nodes[name].fresh for name in self._work.graph.upstream(node.name))
        if fresh or node.name in job.force:
            return False
        source = take_over(node, job.run, self._work.cache)
        if source:
            self._work.tell("reused", job, node.name, source=source)
            self._work.tell_warnings(job, node.name)
        return bool(source)

    def _handle(self, staff: Staff, session: Session, happenings: Sequence[Happening]) -> None:
        for happening in happenings:
            # Progress, which comes often, moves no job on; everything else may.
            self._changed = self._changed or not isinstance(happening, Progressed)
            if isinstance(happening, Imported | Loaded):
                self._work.tell("process", None, session.node.name, state=session.state)
            elif isinstance(happening, Progressed):
                self._tell_progress(session, happening)
            elif isinstance(happening, JobDone):
                staff.job_over(session)
                self._deliveries.take(session, happening)
            elif isinstance(happening, JobFailed):
                if happening.job:
                    staff.job_over(session)
                if not self._stopping:
                    self._attempts.failed(session, happening)
            elif isinstance(happening, Gone):
                staff.retire(session, happening.release)

    def _tell_progress(self, session: Session, happening: Progressed) -> None:
        self._work.tell(
            "progress",
            self._work.job(happening.job),
            session.node.name,
            step=happening.step,
            total=happening.total,
            note=happening.note,
            rss=session.rss,
            vram=session.vram,
        )
