"""What is handed over counts only when it, and all that it was made from, is safe on disk."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass, field

import pytest

from devtools.fakes.parts import finish_node, make_run, make_session, make_stage
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import NodeConfig, Profile, Runtime
from orchestrator.record.cache import CacheIndex
from orchestrator.record.manifest import AttemptRow
from orchestrator.running.attempts import Attempts
from orchestrator.running.durable_writer import Durable
from orchestrator.running.jobs import Job
from orchestrator.running.outputs import Outputs
from orchestrator.running.run_events import RunEvent
from orchestrator.running.session_events import JobFailed, StageFailure
from orchestrator.running.workload import Workload
from orchestrator.system.gpu import GpuMonitor, Release

FULL = OSError(errno.ENOSPC, "No space left on device")


@dataclass
class Disk:
    """Stands for the writer: what a test says has been written."""

    written: list[Durable] = field(default_factory=list)

    def collect(self) -> list[Durable]:
        written, self.written = self.written, []
        return written


@dataclass
class Bench:
    """One job over begin -> end, both handed over and not yet safe."""

    work: Workload
    job: Job
    attempts: Attempts
    disk: Disk
    outputs: Outputs
    events: list[RunEvent]

    def lose(self, node: str) -> None:
        self.disk.written.append(Durable(self.job, node, {}, FULL))

    def keep(self, node: str) -> None:
        record = self.job.run.manifest.nodes[node]
        self.disk.written.append(Durable(self.job, node, dict(record.artifacts)))

    def state(self, node: str) -> str:
        return self.job.run.manifest.nodes[node].state


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    make_stage(monkeypatch, "end", reads="a", writes="b")
    nodes = {name: NodeConfig(stage=name) for name in ("begin", "end")}
    graph = Graph.from_profile(Profile(nodes=nodes))
    run = make_run(tmp_path / "run")
    for node, artifact in (("begin", "a"), ("end", "b")):
        row = AttemptRow(rung=0, device="cpu", outcome="done")
        finish_node(run, node, {artifact: b"text"}, attempts=[row])
        run.manifest.nodes[node].state = "running"
    job = Job("job", run, graph, graph)
    job.begin()
    for progress in job.nodes.values():
        progress.standing = "made"
    events: list[RunEvent] = []

    class Watcher:
        def notify(self, event: RunEvent) -> None:
            events.append(event)

    work = Workload(
        graph,
        [job],
        Runtime(),
        [],
        GpuMonitor(),
        Watcher(),
        CacheIndex(tmp_path),
        fail_fast=True,
    )
    attempts, disk = Attempts(work, [job]), Disk()
    return Bench(work, job, attempts, disk, Outputs(work, attempts, disk, lambda job: None), events)


def test_what_is_safe_on_disk_is_done_and_found_again(bench, tmp_path):
    bench.keep("begin")
    bench.keep("end")
    assert bench.outputs.collect()
    assert (bench.state("begin"), bench.state("end")) == ("done", "done")
    assert len(list((tmp_path / ".cache").iterdir())) == 2


def test_what_was_made_from_lost_files_is_neither_done_nor_found_again(bench, tmp_path):
    bench.lose("begin")
    bench.keep("end")
    assert bench.outputs.collect()
    assert (bench.state("begin"), bench.state("end")) == ("failed", "skipped")
    assert not (tmp_path / ".cache").exists()


def test_a_lost_result_is_told_as_the_end_of_its_job_and_stops_the_others_too(bench):
    bench.lose("begin")
    bench.outputs.collect()
    (event,) = bench.events
    assert (event.kind, event.node, event.fields["kind"]) == ("failed", "begin", "disk_full")
    assert event.fields["final"]
    assert bench.attempts.cancelled, "fail_fast"


def test_a_failure_behind_lost_files_does_not_bring_its_job_back(bench, tmp_path):
    """The process was computing from them when they were lost."""

    session = make_session(bench.work.graph.nodes["end"], tmp_path)
    bench.job.nodes["end"].standing = "running"
    bench.attempts.open(bench.job, session)
    half = bench.job.run.node_folder("end") / ".b.txt.1.part"
    half.touch()
    bench.lose("begin")
    bench.outputs.collect()
    bench.attempts.failed(session, JobFailed("job", StageFailure("crashed", "it died")))
    assert (bench.state("end"), bench.job.nodes["end"].standing) == ("skipped", "skipped")
    assert not half.exists()
    bench.attempts.settle(session, Release("no gpu used"))
