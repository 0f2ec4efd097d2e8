"""The central loop: jobs x nodes over resource leases, by stage or by picture (`spread`).

    admit     by picture, the next job when one is over; by stage, all at the start
    advance   waiting -> ready, or taken from the cache
    assign    staffing: processes, cards, loads, jobs
    wait      for messages, exits, signals and deadlines: one blocking call
    handle    outputs: done -> accepted, made durable behind the next stage's computation
              attempts:   failed -> the same rung again, the next one, or the end of the job

What each step does lies in the module of its name; here is only the order of the steps.
"""

from __future__ import annotations

import collections
import contextlib
import math
import time
from collections.abc import Callable, Sequence

from orchestrator.errors import InterruptedRunError
from orchestrator.pipeline.graph import Node
from orchestrator.processes.hub import ProcessHub
from orchestrator.processes.workspace import Workspace, open_workspace
from orchestrator.record.cache import take_over
from orchestrator.running.attempts import Attempts
from orchestrator.running.dispatcher import Dispatcher
from orchestrator.running.durable_writer import DurableWriter
from orchestrator.running.jobs import READABLE, Job
from orchestrator.running.outputs import Outputs
from orchestrator.running.session import Session
from orchestrator.running.session_events import (
    Gone,
    Imported,
    JobDone,
    JobFailed,
    Loaded,
    Previewed,
    Progressed,
    SessionEvent,
)
from orchestrator.running.spread import spread
from orchestrator.running.workload import Workload
from orchestrator.system import clock
from orchestrator.system.stop_signals import STOP

_IDLE_WAIT = 1.0
_HURRY_SECONDS = 0.2
"""From the second stop signal until processes that will not end are left to the hub's end."""

BEHIND = 8
"""Pieces of writing that may wait for each picture under way before further ones begin: a sketch
has four, and is closed within the time that its successor takes for a tenth of its way."""


class Runner:
    """Carry out `work`. Use once.

    workspace  where the processes live; None opens one, with warm starts
    begin_job  called for each job whose turn has come, before anything else is done with it; it may
               close the job at once
    close_job  called once for each job that is over, behind its last write to disk
    """

    def __init__(
        self,
        work: Workload,
        workspace: Workspace | None = None,
        close_job: Callable[[Job], None] = lambda job: None,
        begin_job: Callable[[Job], None] = Job.begin,
    ) -> None:
        self._work = work
        self._workspace = workspace
        self._begin_job = begin_job
        self._close_job = close_job
        self._laid = spread(
            work.graph, work.runtime, len(work.jobs), len(work.cards), work.budget.host
        )
        self._open: list[Job] = []
        self._later = collections.deque(work.jobs)
        self._changed = True
        self._signals = STOP
        self._told_to_stop = False
        self._give_up_at = float("inf")
        self._durable = DurableWriter(self._signals.poke)
        self._attempts = Attempts(work, self._open)
        self._outputs = Outputs(work, self._attempts, self._durable, close_job)

    def run(self) -> None:
        """Return when every job is over. Raises `InterruptedRunError` when told to stop."""
        self._admit()
        if self._work.over:
            for job in self._open:  # everything was there already: no process needed
                job.closed = True
                self._close_job(job)
            return
        runtime = self._work.runtime
        with contextlib.ExitStack() as stack:
            workspace = self._workspace or stack.enter_context(open_workspace())
            stack.enter_context(self._signals.counted())
            stack.enter_context(self._durable)
            hub = stack.enter_context(
                ProcessHub(
                    workspace,
                    runtime.heartbeat_interval,
                    runtime.inline_max_bytes,
                    runtime.heartbeat_timeout,
                )
            )
            hub.watch(self._signals.fileno())
            self._loop(
                hub,
                Dispatcher(
                    self._work,
                    self._open,
                    self._later,
                    self._laid,
                    self._attempts,
                    self._durable,
                    hub,
                    workspace.folder,
                ),
            )
        if self._signals.count and not self._work.over:
            raise InterruptedRunError(
                "stopped before the end; nothing finished is lost",
                exit_code=self._signals.exit_code,
            )

    def _loop(self, hub: ProcessHub, dispatcher: Dispatcher) -> None:
        self._changed = dispatcher.assign()
        self._outputs.prepare()
        while not self._finished(dispatcher):
            if self._changed:
                self._changed = not self._stopping and dispatcher.assign()
            for event in hub.wait(self._timeout(dispatcher)):
                session = dispatcher.session_of(event.process)
                if session is not None:
                    self._handle(dispatcher, session, session.on_event(event))
            for session in list(dispatcher.sessions):
                self._handle(dispatcher, session, session.tick())
            self._changed |= self._outputs.collect()
            self._pass_on_stop(dispatcher)
            if self._changed:
                self._advance(self._open)
                for job in self._outputs.close(self._open):
                    self._open.remove(job)
            self._changed |= self._admit()
            self._changed |= clock.now() >= self._next_look(dispatcher)

    @property
    def _stopping(self) -> bool:
        return self._attempts.cancelled or self._signals.count > 0

    def _finished(self, dispatcher: Dispatcher) -> bool:
        over = self._stopping or (not self._later and all(job.over for job in self._open))
        if over:
            for session in dispatcher.sessions:
                session.stop()
        if time.monotonic() >= self._give_up_at:
            return True
        return over and not dispatcher.sessions and not self._durable.busy

    def _timeout(self, dispatcher: Dispatcher) -> float:
        if self._changed:
            return 0.0
        deadlines = [session.next_deadline() for session in dispatcher.sessions]
        latest = min(self._next_look(dispatcher), clock.now() + _IDLE_WAIT)
        return max(0.0, min([*deadlines, latest]) - clock.now())

    def _next_look(self, dispatcher: Dispatcher) -> float:
        return math.inf if self._stopping else dispatcher.next_look()

    def _pass_on_stop(self, dispatcher: Dispatcher) -> None:
        self._signals.drain()
        if self._signals.count and not self._told_to_stop:
            self._told_to_stop = True
            self._work.tell("stopping", None, "", signal=self._signals.first.name)
        if self._signals.count > 1:
            self._give_up_at = min(self._give_up_at, time.monotonic() + _HURRY_SECONDS)
        for session in dispatcher.sessions:
            if self._signals.count > 1:
                session.kill()
            elif self._stopping:
                session.terminate()

    def _admit(self) -> bool:
        """Let jobs begin, as many as may be under way beside each other; whether there were any.

        Those whose books wait to be closed are in nobody's way, unless they become many: the files
        that they are made of are still there.
        """
        most, admitted = self._laid.pictures, False
        while self._later and not self._stopping:
            if most and self._durable.behind > BEHIND * most:
                break
            if most and sum(not job.over for job in self._open) >= most:
                break
            job = self._later.popleft()
            self._begin_job(job)
            admitted = True
            if not job.closed:
                self._open.append(job)
                self._advance([job])
        return admitted

    def _advance(self, jobs: Sequence[Job]) -> None:
        """Move each waiting node on whose upstream is settled."""
        if self._stopping:
            return
        graph = self._work.graph
        for job in jobs:
            for name, node in graph.nodes.items():
                if job.nodes[name].standing != "waiting":
                    continue
                if job.standing(graph.upstream(name)) <= READABLE:
                    job.enter(name, "done" if self._reuse(job, node) else "ready")

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

    def _handle(
        self, dispatcher: Dispatcher, session: Session, happenings: Sequence[SessionEvent]
    ) -> None:
        for happening in happenings:
            # Progress, which comes often, moves no job on; everything else may.
            self._changed = self._changed or not isinstance(happening, Progressed | Previewed)
            if isinstance(happening, Imported | Loaded):
                self._work.tell("process", None, session.node.name, state=session.state)
            elif isinstance(happening, Progressed):
                self._tell_progress(session, happening)
            elif isinstance(happening, Previewed):
                self._outputs.show(session, happening)
            elif isinstance(happening, JobDone):
                dispatcher.job_over(session)
                self._outputs.take(session, happening)
            elif isinstance(happening, JobFailed):
                if happening.job:
                    dispatcher.job_over(session)
                if not self._stopping:
                    self._attempts.failed(session, happening)
            elif isinstance(happening, Gone):
                dispatcher.retire(session, happening.release)

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
