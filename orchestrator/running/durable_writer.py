"""Make finished files safe on disk behind the next stage's computation.

A stage's readers map its files as soon as they are renamed; fsync and digest follow in a thread, in
the order of submission, and only then may the manifest call the node done.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.record.manifest import FileRecord
from orchestrator.running.jobs import Job


@dataclass(frozen=True)
class Durable:
    """One node's files are on disk with their digests, or `error` says why not."""

    job: Job
    node: str
    artifacts: dict[str, list[FileRecord]]
    error: OSError | None = None


class DurableWriter:
    """Two one-thread queues: what must be safe, in order, and pictures for people beside it.

    `on_done` is called from the first thread. Use as a context manager.
    """

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="durable")
        self._pictures = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._on_done = on_done
        self._pending: dict[concurrent.futures.Future[Durable], Job] = {}
        self._extra: list[concurrent.futures.Future[None]] = []

    def __enter__(self) -> DurableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True)
        self._pictures.shutdown(wait=True)
        for future in self._extra:
            future.result()

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    @property
    def behind(self) -> int:
        """Pieces of work that have yet to be done."""
        return len(self._pending) + sum(not one.done() for one in self._extra)

    def holds(self, job: Job) -> bool:
        """Whether files of this job are still on their way."""
        return job in self._pending.values()

    def submit(self, job: Job, node: str, artifacts: Mapping[str, Sequence[FileRecord]]) -> None:
        future = self._executor.submit(self._make_durable, job, node, artifacts)
        self._pending[future] = job
        future.add_done_callback(lambda _: self._on_done())

    def draw(self, work: Callable[[], None]) -> None:
        """Make a picture for people, beside the writing."""
        self._forget()
        self._extra.append(self._pictures.submit(work))

    def later(self, work: Callable[[], None]) -> None:
        """Do something behind everything submitted so far (finish a job's result folder)."""
        self._forget()
        before = tuple(self._extra)

        def run() -> None:
            concurrent.futures.wait(before)
            work()

        self._extra.append(self._executor.submit(run))

    def _forget(self) -> None:
        """Let go of what has ended well: a batch has thousands of them, each of which what is
        done later would wait for."""
        self._extra = [one for one in self._extra if not one.done() or one.exception()]

    def collect(self) -> list[Durable]:
        """What has been finished since the last call, in order."""
        done = [future for future in self._pending if future.done()]
        for future in done:
            del self._pending[future]
        return [future.result() for future in done]

    @staticmethod
    def _make_durable(
        job: Job, node: str, artifacts: Mapping[str, Sequence[FileRecord]]
    ) -> Durable:
        try:
            return Durable(job, node, job.run.make_durable(node, artifacts))
        except OSError as error:
            return Durable(job, node, {}, error)
