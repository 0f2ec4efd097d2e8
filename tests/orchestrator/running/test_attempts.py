"""Whom a load that fails costs a try: who was ready for it, not who still waits for his inputs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from devtools.fakes.parts import Silent, make_run, make_session, make_stage
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile, Runtime
from orchestrator.running.attempts import Attempts
from orchestrator.running.jobs import Job, NodeProgress
from orchestrator.running.leases import Leases
from orchestrator.running.schedule import Schedule
from orchestrator.running.session import Session
from orchestrator.running.session_events import JobFailed, StageFailure
from orchestrator.running.workload import Workload
from orchestrator.system.gpu import GpuMonitor


@dataclass
class Bench:
    """begin -> end: one job is ready for `end`, and another one's `begin` is being computed."""

    work: Workload
    attempts: Attempts
    session: Session

    def fail_to_load(self, kind: str) -> tuple[NodeProgress, NodeProgress]:
        self.attempts.failed(self.session, JobFailed("", StageFailure(kind, "it does not load")))
        ready, waiting = (job.nodes["end"] for job in self.work.jobs)
        return ready, waiting

    def outcomes(self) -> list[list[str]]:
        """Of both jobs, what is recorded of their attempts at `end`."""
        records = [job.run.manifest.nodes["end"] for job in self.work.jobs]
        return [[row.outcome for row in record.attempts] for record in records]

    def would_start(self) -> list[str]:
        schedule = Schedule(self.work.graph, self.work.jobs, Leases([], 2), prefetch=True)
        return [node.name for node, _ in schedule.processes_to_start([])]


@pytest.fixture
def bench(tmp_path, monkeypatch, request) -> Bench:
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    make_stage(monkeypatch, "end", reads="a", writes="b")
    rungs = getattr(request, "param", 1)
    ladder = [Attempt(tries=2) for _ in range(rungs)]
    nodes = {"begin": NodeConfig(stage="begin"), "end": NodeConfig(stage="end", attempts=ladder)}
    graph = Graph.from_profile(Profile(nodes=nodes))
    jobs = [Job(name, make_run(tmp_path / name), graph, graph) for name in ("ready", "waiting")]
    for job in jobs:
        job.begin()
    jobs[0].nodes["begin"].standing, jobs[0].nodes["end"].standing = "done", "ready"
    jobs[1].nodes["begin"].standing = "running"
    work = Workload(graph, jobs, Runtime(), [], GpuMonitor(), Silent(), None)
    session = make_session(graph.nodes["end"], tmp_path)
    return Bench(work, Attempts(work, jobs), session)


def test_an_accident_costs_the_one_that_was_ready_a_try(bench):
    ready, waiting = bench.fail_to_load("crashed")
    assert (ready.standing, ready.tries) == ("ready", 1)
    assert (waiting.standing, waiting.tries) == ("waiting", 0)
    assert bench.outcomes() == [["crashed"], []]


def test_the_end_of_the_ladder_is_not_the_end_of_one_that_has_tried_nothing(bench):
    """Its result may even be found, once its inputs are there."""
    ready, waiting = bench.fail_to_load("internal")
    assert ready.standing == "failed"
    assert (waiting.standing, waiting.rung) == ("waiting", 0)
    assert bench.outcomes() == [["internal"], []]


@pytest.mark.parametrize("bench", [2], indirect=True)
def test_a_rung_that_does_not_work_here_is_left_by_all_and_said_of_all(bench):
    ready, waiting = bench.fail_to_load("missing_dependency")
    assert (ready.standing, ready.rung, ready.tries) == ("ready", 1, 0)
    assert (waiting.standing, waiting.rung, waiting.tries) == ("waiting", 1, 0)
    assert bench.outcomes() == [["missing_dependency"], ["missing_dependency"]]


@pytest.mark.parametrize("kind", ["crashed", "timed_out", "bad_input", "internal"])
def test_what_failed_ahead_of_time_is_started_again_when_a_job_is_ready(bench, kind):
    """And not before: it would fail again and again, while the input is being computed."""
    ready, waiting = bench.work.jobs
    ready.nodes["end"].standing = "done"
    assert bench.would_start() == ["end"]
    bench.fail_to_load(kind)
    assert bench.would_start() == []
    waiting.nodes["begin"].standing, waiting.nodes["end"].standing = "done", "ready"
    assert bench.would_start() == ["end"]


def test_all_that_are_ready_are_charged_and_each_once(bench):
    for job in bench.work.jobs:
        job.nodes["end"].standing = "ready"
    bench.fail_to_load("crashed")
    assert bench.outcomes() == [["crashed"], ["crashed"]]
    ready, waiting = bench.fail_to_load("crashed")
    assert (ready.standing, waiting.standing) == ("failed", "failed")
    assert bench.outcomes() == [["crashed", "crashed"]] * 2
