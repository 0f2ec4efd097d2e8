"""The processes of a run, and who gets what: a start, a card, the word to load, the next job.

    fall    a GPU rung on a machine without a card fails before any process starts
    start   one session a node and rung, as `schedule` says, some of them ahead of time
    load    a GPU session leases a card first; while it waits it reads its weights ahead
    feed    an idle session gets its next job, or is let go when none will come, or when another
            node has work for the card on which it only waits

A session serves every job that is ready for its node and then ends, so a batch pays each model load
once. One picture is a batch of one.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.pipeline.graph import Node
from orchestrator.processes.handle import StageProcess
from orchestrator.processes.hub import NO_CARD, ProcessHub
from orchestrator.record import stage_pictures
from orchestrator.record.run_directory import ATTEMPT_LOG
from orchestrator.running.attempts import Attempts, storage_failure
from orchestrator.running.durable_writer import DurableWriter
from orchestrator.running.jobs import Job
from orchestrator.running.leases import Leases
from orchestrator.running.schedule import Schedule
from orchestrator.running.session import Session
from orchestrator.running.session_events import StageFailure
from orchestrator.running.spread import Spread, on_gpu
from orchestrator.running.workload import Workload
from orchestrator.system import clock
from orchestrator.system.atomic_files import next_log
from orchestrator.system.gpu import Release


class Dispatcher:
    """The sessions that live, and the leases that they hold.

    open_jobs  those that have begun or may begin, and are not closed; later: those that come when
               some of these are over. Whoever owns the lists moves jobs
    laid       how they are laid over this machine
    scratch    a private folder, in which each job gets one of its own
    """

    def __init__(
        self,
        work: Workload,
        open_jobs: Sequence[Job],
        later: Collection[Job],
        laid: Spread,
        attempts: Attempts,
        durable: DurableWriter,
        hub: ProcessHub,
        scratch: Path,
    ) -> None:
        self._work = work
        self._attempts = attempts
        self._durable = durable
        self._hub = hub
        self._scratch = scratch
        self._leases = Leases(work.cards, laid.slots)
        self._share = replace(work.budget, host=laid.host)
        self._schedule = Schedule(
            work.graph, open_jobs, self._leases, work.runtime.prefetch, laid, later
        )
        self._threads = laid.threads
        self.sessions: list[Session] = []

    def session_of(self, process: StageProcess) -> Session | None:
        return next((s for s in self.sessions if s.process is process), None)

    def assign(self) -> bool:
        """Give every ready job a process, and processes their cards, loads and jobs.

        Returns whether a job moved on: given out, or failed without a process.
        """
        moved = self._fall_without_card()
        for node, rung in self._schedule.processes_to_start(self.sessions):
            moved |= self._start(node, rung)
        for session in self.sessions:
            if session.doomed:
                continue
            self._lease_and_load(session)
            if session.state == "idle":
                moved |= self._feed(session)
            elif session.state == "imported" and not self._schedule.is_wanted(
                session, self.sessions
            ):
                session.stop()  # started ahead, but its jobs failed or were found in the cache
        return moved

    def job_over(self, session: Session) -> None:
        """A session's job came back, done or failed: its CPU slot is free."""
        if session.card is None:
            self._leases.return_slot()

    def retire(self, session: Session, release: Release) -> None:
        """A session's process is gone, and its memory accounted for."""
        self.sessions.remove(session)
        if session.card is not None:
            self._leases.return_card(session.card)
        self._attempts.settle(session, release)
        self._work.tell(
            "gone",
            None,
            session.node.name,
            pid=session.process.pid,
            exit=session.process.exit_code,
            released=release.verdict,
            **({"fault": session.fault} if session.fault else {}),
        )

    def _fall_without_card(self) -> bool:
        if self._leases.cards:
            return False
        why = self._work.monitor.why_not or "no GPU may be used (--device)"
        failure = StageFailure(
            "gpu_unavailable", why, "`kiss3d-orchestrate doctor` checks; --device cpu uses the CPU"
        )
        fell = False
        for node in self._work.graph.nodes.values():
            for rung in range(len(node.config.attempts)):
                if on_gpu(node, rung):
                    for job in self._schedule.ready(node.name, rung):
                        self._attempts.fail_unstarted(job, node, "cuda", failure)
                        fell = True
        return fell

    def _start(self, node: Node, rung: int) -> bool:
        """Ask for a process. Where there is no room for its files, the jobs that are ready for it
        fail; whether there were any."""
        try:
            log = next_log(*self._log_place(node))
            session = Session(
                node,
                rung,
                self._hub,
                self._hub.start(node.config.stage, node.preload, log, NO_CARD),
                self._work.runtime,
                self._work.monitor,
                log,
                self._threads,
                self._share if on_gpu(node, rung) else self._work.budget,
            )
        except OSError as error:
            ready = self._schedule.ready(node.name, rung)
            device = "cuda" if on_gpu(node, rung) else "cpu"
            for job in ready:
                failure = storage_failure(error, job.run.path / node.name)
                self._attempts.fail_unstarted(job, node, device, failure)
            return bool(ready)
        self.sessions.append(session)
        self._preload_after(node)
        return False

    def _preload_after(self, node: Node) -> None:
        """The template imports for the node behind this one, and not further ahead: it cannot
        fork while it imports, and torch alone takes seconds."""
        names = list(self._work.graph.nodes)
        for name in names[names.index(node.name) + 1 :][:1]:
            self._hub.preload(self._work.graph.nodes[name].preload)

    def _log_place(self, node: Node) -> tuple[Path, str]:
        if self._work.log_folder is not None:
            return self._work.log_folder, f"{node.name}-"
        return self._work.jobs[0].run.node_folder(node.name), ATTEMPT_LOG

    def _lease_and_load(self, session: Session) -> None:
        if session.state != "imported":
            return
        if not on_gpu(session.node, session.rung):
            if self._schedule.may_load(session):
                session.load(None)
        elif self._schedule.may_take_card(session, self.sessions) and (
            card := self._leases.take_card()
        ):
            session.load(card)
        elif self._schedule.may_load(session):
            session.prepare()

    def _feed(self, session: Session) -> bool:
        """Whether a job was ready that an idle session could be given."""
        ready = self._schedule.ready(session.node.name, session.rung)
        if not ready:
            if not self._schedule.may_get_more(session, self.sessions) or self._gives_way(session):
                session.stop()
            return False
        if session.card is None and not self._leases.take_slot():
            return False
        self._give(session, ready[0])
        return True

    def _gives_way(self, session: Session) -> bool:
        return clock.now() >= self._schedule.gives_way_at(session, self.sessions)

    def next_look(self) -> float:
        """`clock.now()` at which `assign` has something to do though nothing has moved; inf: not
        before something does."""
        times = (self._schedule.gives_way_at(one, self.sessions) for one in self.sessions)
        return min(times, default=math.inf)

    def _give(self, session: Session, job: Job) -> None:
        node = session.node
        progress, record = job.nodes[node.name], job.run.manifest.nodes[node.name]
        job.enter(node.name, "running")
        progress.tries += 1
        progress.attempt = self._attempts.open(job, session)
        try:
            scratch = self._scratch / f"{node.name}-{time.monotonic_ns()}"
            scratch.mkdir()
            folder = job.run.node_folder(node.name).resolve()
            stage_pictures.clear(job.run, node.name)
        except OSError as error:
            self.job_over(session)
            row = self._attempts.close(job, session)
            failure = storage_failure(error, job.run.path / node.name)
            self._attempts.fail(job, node, row, failure)
            return
        device = progress.attempt.device
        wanted = node.config.previews if self._work.previews else 0
        seed = job.run.manifest.seed
        session.run(job.name, job.input_paths(node), folder, scratch, seed, wanted)
        if job.last == node.name:
            self._durable.draw(functools.partial(job.sheet.prepare, job.written()))
        self._work.tell(
            "started",
            job,
            node.name,
            rung=session.rung,
            device=device,
            warm=session.process.warm,
            cold_reason=session.process.cold_reason,
            attempt=len(record.attempts) + 1,
        )
