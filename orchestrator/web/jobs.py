"""The queue: runs that wait for their turn, and those that compute, a few at a time.

A run directory is made when a job is taken, before it waits. So nothing is lost with the server:
what waited or computed then is an interrupted run, and `resume`, here or on the command line, goes
on with it. Each run is a worker process of `api`; this process keeps a few hundred bytes of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from orchestrator.api.request import Request
from orchestrator.api.runs import Run, begin
from orchestrator.commands import run as runs
from orchestrator.commands.subject import Subject
from orchestrator.errors import InterruptedRunError, KissError, UsageError
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare
from orchestrator.record.run_directory import RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.web.live import Progress

State = Literal["waiting", "running", "done", "failed", "interrupted"]
REMEMBERED = 64
"""Jobs that are over, of which the live view can still be asked; the record is on the disk."""
END_SECONDS = 8.0


@dataclass(eq=False)
class Job:
    """One run that this server was asked for. name: its directory below the outputs, with "/"."""

    name: str
    path: Path
    state: State = "waiting"
    error: str = ""
    progress: Progress = field(default_factory=Progress)
    run: Run | None = None
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")


class Jobs:
    """All of them. at_once: how many compute at a time; waiting: how many more are taken."""

    def __init__(self, root: Path, at_once: int, waiting: int) -> None:
        self.root = root
        self._most = waiting
        self._changed = threading.Condition()
        self._line: deque[Job] = deque()
        self._known: OrderedDict[str, Job] = OrderedDict()
        self._taking = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"kiss3d job {number}", daemon=True)
            for number in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, subject: Subject, options: Options) -> Job:
        """A new run, which waits for its turn.

        Raises `UsageError` for what `run` would refuse, and where too many wait already.
        """
        with self._place():
            run = runs.begin(prepare(replace(options, start=subject.start)), subject, self.root)
            return self._enqueue(run.path)

    def resume(self, name: str) -> Job:
        """Go on with a run that is interrupted or has failed. Raises `UsageError`."""
        path = self.path_of(name)
        with self._place():
            run = RunDirectory.open(path)
            job = self.job(name)
            if (job and not job.over) or state_now(run) == "running":
                raise UsageError(f"{name} is being worked on already", "watch it in the queue")
            return self._enqueue(path)

    def cancel(self, name: str) -> bool:
        """Stop a job, or take it out of the line; whether there was one. A second call stops at
        once, whatever hangs."""
        with self._changed:
            job = self._known.get(name)
            if job is None or job.over:
                return False
            job.cancelled = True
            if job in self._line:
                self._line.remove(job)
                self._end(job, "interrupted", "cancelled before its turn came")
            run = job.run
        if run is not None:
            run.cancel()
        return True

    def job(self, name: str) -> Job | None:
        with self._changed:
            return self._known.get(name)

    def active(self) -> list[Job]:
        """Those that compute, then those that wait, in their order."""
        with self._changed:
            running = [job for job in self._known.values() if job.state == "running"]
            return [*running, *self._line]

    def ahead_of(self, job: Job) -> int:
        """How many wait before it."""
        with self._changed:
            return self._line.index(job) if job in self._line else 0

    def path_of(self, name: str) -> Path:
        """The directory of a run that was named by a page. Raises `UsageError` for one that is not
        in the outputs, whatever its name leads to."""
        from orchestrator.web.gallery import is_run

        if not is_run(self.root, name):
            raise UsageError("there is no such run", "choose one of the list")
        return self.root.joinpath(*name.split("/"))

    def close(self) -> None:
        """Stop what computes, and keep what waits as interrupted runs. Takes a few seconds."""
        with self._changed:
            self._closing = True
            running = [job.run for job in self._known.values() if job.run and not job.over]
            self._changed.notify_all()
        for run in running:
            run.cancel()
        for run in running:
            with contextlib.suppress(BaseException):
                run.wait(END_SECONDS)

    @contextlib.contextmanager
    def _place(self):  # type: ignore[no-untyped-def]
        """A place in the line, held while the run directory is made."""
        with self._changed:
            if len(self._line) + self._taking >= self._most:
                raise UsageError(
                    f"{self._most} runs are waiting already", "try again when some are done"
                )
            self._taking += 1
        try:
            yield
        finally:
            with self._changed:
                self._taking -= 1

    def _enqueue(self, path: Path) -> Job:
        job = Job(path.relative_to(self.root).as_posix(), path)
        with self._changed:
            self._known.pop(job.name, None)
            self._known[job.name] = job
            self._line.append(job)
            self._changed.notify()
        return job

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._line and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                job = self._line.popleft()
                job.state = "running"
            self._carry_out(job)

    def _carry_out(self, job: Job) -> None:
        try:
            asked = Request("resume", Options(), output=job.path)
            run = begin(Run, asked, job.progress.hear, job.progress.decided)
            assert isinstance(run, Run)
            with self._changed:
                job.run = run
                stop = job.cancelled or self._closing
            if stop:
                run.cancel()
            run.wait()
            end: State = "done"
            error = ""
        except InterruptedRunError:
            end, error = "interrupted", "cancelled"
        except KissError as caught:
            end, error = "failed", str(caught)
        except Exception as caught:  # noqa: BLE001 (the thread serves the next one)
            end, error = "failed", f"{type(caught).__name__}: {caught}"
        with self._changed:
            self._end(job, end, error)

    def _end(self, job: Job, state: State, error: str) -> None:
        job.state, job.error, job.run = state, error, None
        over = [name for name, one in self._known.items() if one.over]
        for name in over[: max(0, len(over) - REMEMBERED)]:
            del self._known[name]
