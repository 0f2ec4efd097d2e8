"""What a runner is to carry out, and on what terms. Data, and the way to tell what became of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.pipeline.budget import NO_LIMIT, Budget
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import Runtime
from orchestrator.record.cache import CacheIndex
from orchestrator.running.jobs import Job
from orchestrator.running.run_events import Observer, RunEvent
from orchestrator.system.gpu import Card, GpuMonitor


@dataclass(frozen=True)
class Workload:
    """Jobs, all over the same graph.

    cards       those that may be used
    cache       index of earlier runs, or None to look at the jobs' own directories only
    log_folder  where sessions of a batch log; None: in the job's own node folders
    fail_fast   stop everything at the first failed job
    previews    stages may show pictures of their work
    budget      what each process may take of the card and of host memory
    """

    graph: Graph
    jobs: Sequence[Job]
    runtime: Runtime
    cards: Sequence[Card]
    monitor: GpuMonitor
    observer: Observer
    cache: CacheIndex | None = None
    log_folder: Path | None = None
    fail_fast: bool = False
    previews: bool = False
    budget: Budget = NO_LIMIT

    @property
    def over(self) -> bool:
        return all(job.over for job in self.jobs)

    def job(self, name: str) -> Job:
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, Job]:
        return {job.name: job for job in self.jobs}

    def tell_warnings(self, job: Job, node: str) -> None:
        """Tell what a node's stage warned of, in this run or when its result was made."""
        for text in job.run.manifest.nodes[node].warnings:
            self.tell("warning", job, node, text=text)

    def tell(self, kind: str, job: Job | None, node: str, /, **fields: Any) -> None:
        """Tell the observer, and the run directory's events. None: it concerns a process as such,
        which stands in the first job's."""
        if kind != "progress":
            (job or self.jobs[0]).run.event(kind, node=node, **fields)
        self.observer.notify(RunEvent(kind, job.name if job else "", node, fields))
