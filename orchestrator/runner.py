"""The central loop: jobs x nodes over resource leases, stage-major.

    advance    waiting -> ready, or taken from the cache, or skipped
    staff      one session a node and rung; GPU sessions lease a card before they load
    wait       for messages, exits, signals and deadlines: one blocking call
    handle     done -> accept files, start readers at once, make durable behind them
               failed -> recovery.decide -> repeat, next rung, or end the job

A session serves every job that is ready for its node and then ends, so a batch pays each model load
once. One picture is a batch of one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator import recovery
from orchestrator.books import AttemptBook
from orchestrator.budget import NO_LIMIT, Budget
from orchestrator.cache import CacheIndex, key_of, key_parts, take_over
from orchestrator.config import Runtime
from orchestrator.durable import DurableWriter
from orchestrator.errors import InterruptedRunError, ProtocolError, StageProcessError
from orchestrator.files import next_log
from orchestrator.gpu import GpuMonitor, Release
from orchestrator.graph import Graph, Node
from orchestrator.jobs import Job
from orchestrator.leases import Card, Leases
from orchestrator.manifest import AttemptRow
from orchestrator.process import ProcessHub
from orchestrator.progress import Observer, RunEvent
from orchestrator.schedule import Schedule, on_gpu, threads_a_stage
from orchestrator.session import (
    Gone,
    Happening,
    Imported,
    JobDone,
    JobFailed,
    Loaded,
    Progressed,
    Session,
    StageFailure,
)
from orchestrator.signals import StopSignals
from orchestrator.workplace import Workplace, open_workplace
from stages.contract import ContractError

_IDLE_WAIT = 1.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Runner:
    """Carry out `jobs`, all over the same `graph`. Use once.

    cache       index of earlier runs, or None to look at the jobs' own directories only
    log_folder  where sessions of a batch log; None: in the job's own node folders
    workplace   where the processes live; None opens one, with warm starts
    fail_fast   stop everything at the first failed job
    close_job   called once for each job that is over, behind its last write to disk
    budget      what each process may take of the card and of host memory
    """

    def __init__(
        self,
        graph: Graph,
        jobs: Sequence[Job],
        runtime: Runtime,
        cards: Sequence[Card],
        monitor: GpuMonitor,
        observer: Observer,
        cache: CacheIndex | None = None,
        log_folder: Path | None = None,
        workplace: Workplace | None = None,
        fail_fast: bool = False,
        close_job: Callable[[Job], None] = lambda job: None,
        budget: Budget = NO_LIMIT,
    ) -> None:
        self._graph = graph
        self._jobs = {job.name: job for job in jobs}
        self._open = list(jobs)
        self._runtime = runtime
        self._leases = Leases(cards, runtime.cpu_slots)
        self._monitor = monitor
        self._observer = observer
        self._cache = cache
        self._log_folder = log_folder
        self._workplace = workplace
        self._fail_fast = fail_fast
        self._close_job = close_job
        self._budget = budget
        self._sessions: list[Session] = []
        self._books = AttemptBook()
        self._cancelled = False
        self._changed = True
        self._signals = StopSignals()
        self._durable = DurableWriter(self._signals.poke)
        self._schedule = Schedule(graph, self._open, self._leases, runtime.prefetch)
        self._threads = threads_a_stage(runtime, len(jobs))

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Return when every job is over. Raises `InterruptedRunError` when told to stop."""
        self._advance()
        if all(job.over for job in self._jobs.values()):
            for job in self._jobs.values():  # everything was there already: no process needed
                self._close_job(job)
            return
        with contextlib.ExitStack() as stack:
            workplace = self._workplace or stack.enter_context(open_workplace())
            self._folder = workplace.folder
            stack.enter_context(self._signals.installed())
            stack.enter_context(self._durable)
            self._hub = stack.enter_context(self._open_hub(workplace))
            self._hub.watch(self._signals.fileno())
            self._staff()
            self._durable.draw(_import_ahead)
            while not self._finished():
                if self._changed:
                    self._changed = False
                    self._staff()
                for event in self._hub.wait(self._timeout()):
                    session = self._session_of(event.process)
                    if session is not None:
                        self._handle(session, session.on_event(event))
                for session in list(self._sessions):
                    self._handle(session, session.tick())
                self._collect_durable()
                self._check_stop()
                if self._changed:
                    self._advance()
                    self._close_finished()
        if self._signals.count and not all(job.over for job in self._jobs.values()):
            raise InterruptedRunError("stopped before the end; nothing finished is lost")

    def _open_hub(self, workplace: Workplace) -> ProcessHub:
        runtime = self._runtime
        return ProcessHub(workplace, runtime.heartbeat_interval, runtime.inline_max_bytes)

    @property
    def _stopping(self) -> bool:
        return self._cancelled or self._signals.count > 0

    def _finished(self) -> bool:
        over = self._stopping or all(job.over for job in self._open)
        if over:
            for session in self._sessions:
                session.stop()
        return over and not self._sessions and not self._durable.busy

    def _timeout(self) -> float:
        if self._changed:
            return 0.0
        deadlines = [session.next_deadline() for session in self._sessions]
        return max(0.0, min([*deadlines, time.monotonic() + _IDLE_WAIT]) - time.monotonic())

    def _check_stop(self) -> None:
        self._signals.drain()
        for session in self._sessions:
            if self._signals.count > 1:
                session.kill()
            elif self._stopping:
                session.terminate()

    def _close_finished(self) -> None:
        """Hand over jobs that are over; those still on their way to the disk come later."""
        for job in [job for job in self._open if job.over]:
            if not self._durable.holds(job):
                self._open.remove(job)
                job.closed = True
                self._durable.later(functools.partial(self._close_job, job))

    def _session_of(self, process: object) -> Session | None:
        return next((s for s in self._sessions if s.process is process), None)

    # ------------------------------------------------------------------ advance

    def _advance(self) -> None:
        """Move each waiting node on whose upstream is settled."""
        if self._stopping:
            return
        for job in self._open:
            for name, node in self._graph.nodes.items():
                if job.nodes[name].standing == "waiting" and job.standing(
                    self._graph.upstream(name)
                ) <= {"done"}:
                    self._settle(job, node)

    def _settle(self, job: Job, node: Node) -> None:
        """A node's inputs are there: is its output there too?"""
        progress = job.nodes[node.name]
        inputs_fresh = any(job.nodes[name].fresh for name in self._graph.upstream(node.name))
        # With a fresh input nothing can be known of the key until that is digested, which would
        # make this node wait for the disk; and its key is new anyway.
        if not inputs_fresh and node.name not in job.force and self._reuse(job, node):
            progress.standing = "done"
            return
        progress.standing = "ready"

    def _reuse(self, job: Job, node: Node) -> bool:
        source = take_over(node, job.run, self._cache)
        if source:
            self._notify("reused", job, node.name, source=source)
        return bool(source)

    # ------------------------------------------------------------------ staff

    def _staff(self) -> None:
        """Give every ready job a process, and processes their cards, loads and jobs."""
        if self._stopping:
            return
        self._fall_without_card()
        for node, rung in self._schedule.processes_to_start(self._sessions):
            self._start_session(node, rung)
        for session in self._sessions:
            self._lease_and_load(session)
            if session.state == "idle":
                self._feed(session)
            elif session.state == "imported" and not self._schedule.is_wanted(session):
                session.stop()  # started ahead, but its jobs failed or were found in the cache

    def _fall_without_card(self) -> None:
        """A GPU rung on a machine without a card fails at once, without a process."""
        if self._leases.cards:
            return
        why = self._monitor.why_not or "no GPU may be used (--device)"
        failure = StageFailure(
            "gpu_unavailable", why, "`kiss3d-orchestrate doctor` checks; --device cpu uses the CPU"
        )
        for node in self._graph.nodes.values():
            for rung in range(len(node.config.attempts)):
                if on_gpu(node, rung):
                    for job in self._schedule.ready(node.name, rung):
                        row = AttemptRow(rung=rung, device="cuda", started=time.time())
                        self._fail_attempt(job, node, row, failure)

    def _start_session(self, node: Node, rung: int) -> None:
        try:
            session = Session(
                node,
                rung,
                self._hub,
                self._runtime,
                self._monitor,
                next_log(*self._log_place(node)),
                next(iter(self._jobs.values())).run.manifest.seed,
                self._threads,
                self._budget,
            )
        except (StageProcessError, OSError) as error:
            for job in self._schedule.ready(node.name, rung):
                row = AttemptRow(rung=rung, device="cpu", started=time.time())
                self._fail_attempt(job, node, row, StageFailure("internal", str(error)))
            return
        self._sessions.append(session)
        self._preload_after(node)

    def _preload_after(self, node: Node) -> None:
        """The template imports for the node behind this one, and not further ahead: it cannot
        fork while it imports, and torch alone takes seconds."""
        names = list(self._graph.nodes)
        for name in names[names.index(node.name) + 1 :][:1]:
            self._hub.preload(self._graph.nodes[name].preload)

    def _log_place(self, node: Node) -> tuple[Path, str]:
        if self._log_folder is not None:
            return self._log_folder, f"{node.name}-"
        return next(iter(self._jobs.values())).run.node_folder(node.name), "attempt-"

    def _lease_and_load(self, session: Session) -> None:
        if session.state != "imported":
            return
        if not on_gpu(session.node, session.rung):
            if self._schedule.may_load(session):
                session.load(None)
        elif self._schedule.ready(session.node.name, session.rung) and (
            card := self._leases.take_card()
        ):
            session.load(card)
        elif self._schedule.may_load(session):
            session.prepare()

    def _feed(self, session: Session) -> None:
        """Give an idle session its next job, or let it go when none will come."""
        name = session.node.name
        ready = self._schedule.ready(name, session.rung)
        if not ready:
            if not self._schedule.may_get_more(session):
                session.stop()
            return
        if session.card is None and not self._leases.take_slot():
            return
        job = ready[0]
        progress = job.nodes[name]
        progress.standing, progress.tries = "running", progress.tries + 1
        self._changed = True  # what reads from this node comes next: its process may start
        progress.attempt = self._books.open(job, session)
        job.run.manifest.nodes[name].state = "running"
        try:
            scratch = self._folder / f"{name}-{time.monotonic_ns()}"
            scratch.mkdir()
            folder = job.run.node_folder(name).resolve()
        except OSError as error:
            row = self._close_row(job, session)
            self._fail_attempt(job, session.node, row, _storage_failure(error))
            return
        session.run(job.name, job.input_paths(session.node), folder, scratch)
        if job.last == name:
            self._durable.draw(functools.partial(job.sheet.prepare, job.written()))
        self._notify(
            "started",
            job,
            name,
            rung=session.rung,
            device=progress.attempt.device,
            warm=session.process.warm,
            attempt=len(job.run.manifest.nodes[name].attempts) + 1,
        )

    # ------------------------------------------------------------------ handle

    def _handle(self, session: Session, happenings: Sequence[Happening]) -> None:
        for happening in happenings:
            # Progress, which comes often, moves no job on; everything else may.
            self._changed = self._changed or not isinstance(happening, Progressed)
            if isinstance(happening, Imported | Loaded):
                self._notify("process", None, session.node.name, state=session.state)
            elif isinstance(happening, Progressed):
                self._notify(
                    "progress",
                    self._jobs[happening.job],
                    session.node.name,
                    step=happening.step,
                    total=happening.total,
                    note=happening.note,
                    rss=session.rss,
                    vram=session.vram,
                )
            elif isinstance(happening, JobDone):
                self._on_done(session, happening)
            elif isinstance(happening, JobFailed):
                self._on_failed(session, happening)
            elif isinstance(happening, Gone):
                self._on_gone(session, happening.release)

    def _close_row(self, job: Job, session: Session) -> AttemptRow:
        if session.card is None:
            self._leases.return_slot()
        return self._books.close(job, session)

    def _on_done(self, session: Session, happening: JobDone) -> None:
        node = session.node
        job = self._jobs[happening.message.job]
        row = self._close_row(job, session)
        if job.nodes[node.name].standing != "running":
            return  # its inputs turned out not to be safe on disk: the job has failed
        row.timings |= happening.message.timings
        try:
            artifacts = job.accept(node, happening.message.outputs, happening.frames)
        except (ProtocolError, ContractError) as error:
            session.stop()
            self._fail_attempt(job, node, row, StageFailure("internal", str(error)))
            return
        except OSError as error:
            self._fail_attempt(job, node, row, _storage_failure(error))
            return
        row.outcome = "done"
        record = job.run.manifest.nodes[node.name]
        record.attempts.append(row)
        record.artifacts = artifacts
        record.cached_from = ""
        record.degraded = session.attempt.degraded
        record.reason = ""
        progress = job.nodes[node.name]
        progress.standing, progress.fresh = "done", True
        self._notify(
            "done",
            job,
            node.name,
            seconds=row.seconds,
            rss=row.peak_rss,
            vram=session.vram,
            degraded=record.degraded,
        )
        self._durable.submit(job, node.name, artifacts)
        if self._runtime.previews:
            self._durable.draw(functools.partial(job.run.write_previews, node.name, node.outputs))

    def _collect_durable(self) -> None:
        """Files that are safe on disk now enter the manifest."""
        for durable in self._durable.collect():
            job, node = durable.job, self._graph.nodes[durable.node]
            record = job.run.manifest.nodes[durable.node]
            self._changed = True
            try:
                if durable.error is not None:
                    raise durable.error
                record.artifacts = durable.artifacts
                record.key_parts = key_parts(node, job.run.manifest.seed, job.run)
                record.key = key_of(record.key_parts)
                record.state = "done"
                job.run.save()
            except OSError as error:
                failure = _storage_failure(error)
                record.artifacts = {}
                job.fail(durable.node, failure.message)
                self._notify(
                    "failed",
                    job,
                    durable.node,
                    kind=failure.kind,
                    message=failure.message,
                    hint=failure.hint,
                    move="end",
                )
                continue
            if self._cache is not None and not record.degraded:
                with contextlib.suppress(OSError):
                    self._cache.add(record.key, job.run, durable.node)

    def _on_failed(self, session: Session, happening: JobFailed) -> None:
        node = session.node
        if happening.job:
            job = self._jobs[happening.job]
            row = self._close_row(job, session)
            if not self._stopping:
                self._fail_attempt(job, node, row, happening.failure)
            return
        if self._stopping:
            return
        victims = [
            job
            for job in self._jobs.values()
            if job.nodes[node.name].standing in ("waiting", "ready")
            and job.nodes[node.name].rung == session.rung
        ]
        for job in victims:
            job.nodes[node.name].tries += 1
            row = self._books.open(job, session)
            row.peak_rss = session.peak_rss
            self._fail_attempt(job, node, row, happening.failure)

    def _fail_attempt(self, job: Job, node: Node, row: AttemptRow, failure: StageFailure) -> None:
        self._changed = True
        progress = job.nodes[node.name]
        move = recovery.decide(
            failure.kind, progress.rung, max(1, progress.tries), node.config.attempts
        )
        row.outcome, row.message, row.hint = failure.kind, failure.message, failure.hint
        row.move = str(move)
        job.run.manifest.nodes[node.name].attempts.append(row)
        job.run.discard_partial(node.name)
        if move.action == "end":
            job.fail(node.name, failure.message)
            if self._fail_fast:
                self._cancelled = True
        else:
            if move.action == "next_rung":
                progress.rung, progress.tries = move.rung, 0
            if progress.standing == "running":
                progress.standing = "ready"
            job.run.manifest.nodes[node.name].state = "pending"
        self._notify(
            "failed",
            job,
            node.name,
            kind=failure.kind,
            message=failure.message,
            hint=failure.hint,
            move=str(move),
            final=move.action == "end",
            log=row.log,
        )
        with contextlib.suppress(OSError):  # a full disk is being reported already
            job.run.save()

    def _on_gone(self, session: Session, release: Release) -> None:
        self._sessions.remove(session)
        if session.card is not None:
            self._leases.return_card(session.card)
        self._books.settle(session, release)
        self._notify(
            "gone",
            None,
            session.node.name,
            pid=session.process.pid,
            exit=session.process.exit_code,
            released=release.verdict,
        )

    def _notify(self, kind: str, job: Job | None, node: str, /, **fields: Any) -> None:
        jobs = [job] if job is not None else list(self._jobs.values())[:1]
        if kind != "progress":
            for each in jobs:
                each.run.event(kind, node=node, **fields)
        self._observer.notify(RunEvent(kind, job.name if job else "", node, fields))


def _import_ahead() -> None:
    """What checking and drawing outputs needs, 60 ms, while the first processes come up."""
    import numpy
    from PIL import Image

    del numpy, Image


def _storage_failure(error: OSError) -> StageFailure:
    if error.errno in _DISK_ERRORS:
        return StageFailure("disk_full", f"cannot write the result: {error}", "free disk space")
    return StageFailure("internal", f"cannot write the result: {error}")
