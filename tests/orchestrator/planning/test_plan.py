"""The plan says what the runner then does: both are asked, before and after each change."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest

from devtools.fakes.parts import make_run
from orchestrator.commands.plans import plan_cells
from orchestrator.pipeline.budget import NO_LIMIT
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import NodeConfig, Profile, Runtime
from orchestrator.planning.plan import plan_row, predict
from orchestrator.record.cache import CacheIndex
from orchestrator.record.run_directory import RunDirectory
from orchestrator.running.jobs import Job
from orchestrator.running.loop import Runner
from orchestrator.running.run_events import RunEvent
from orchestrator.running.workload import Workload
from orchestrator.system.gpu import GpuMonitor
from orchestrator.weights import needs

NODES = ("source", "trouble", "sink")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


class Watcher:
    """Remembers which nodes were taken over and which were computed."""

    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}

    def notify(self, event: RunEvent) -> None:
        if event.kind in ("reused", "done"):
            self.cached[event.node] = event.kind == "reused"


@dataclasses.dataclass
class Bench:
    """One outputs folder with its index, and the chain of fake stages."""

    index: CacheIndex

    def plan(self, run: RunDirectory, graph: Graph) -> dict[str, bool]:
        return {row.node: row.cached for row in predict(graph, run, self.index)}

    def carry_out(self, run: RunDirectory, graph: Graph) -> dict[str, bool]:
        watcher = Watcher()
        runtime = Runtime(heartbeat_interval=0.1, prefetch=False)
        job = Job(run.path.name, run, graph, graph)
        Runner(Workload(graph, [job], runtime, [], GpuMonitor(), watcher, self.index)).run()
        assert job.succeeded, job.error
        run.save()
        return watcher.cached

    def agree(self, run: RunDirectory, graph: Graph, *cached: bool) -> None:
        """The plan is `cached`, a bool a node, and the runner keeps to it."""
        expected = dict(zip(NODES, cached, strict=True))
        assert self.plan(run, graph) == expected
        assert self.carry_out(run, graph) == expected


def chain(**trouble: object) -> Graph:
    nodes = {name: NodeConfig(stage=f"fake.{name}") for name in NODES}
    nodes["trouble"] = NodeConfig(stage="fake.trouble", **trouble)
    return Graph.from_profile(Profile(nodes=nodes))


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(CacheIndex(tmp_path))


def test_the_plan_and_the_runner_agree_from_the_first_run_to_the_last(bench, tmp_path):
    first = make_run(tmp_path / "first")
    bench.agree(first, chain(), False, False, False)
    bench.agree(first, chain(), True, True, True)

    (first.path / "trouble" / "troubled.npy").write_bytes(b"damaged")
    bench.agree(first, chain(), True, False, False)

    slower = chain(params={"seconds": 0.01})
    bench.agree(first, slower, True, False, False)

    second = make_run(tmp_path / "second")
    bench.agree(second, slower, True, True, True)

    (second.path / "sink" / "total.txt").unlink()
    bench.agree(second, slower, True, True, True)
    assert second.intact("sink") == "", "it is whole in the first run, and comes from there"


def test_what_the_first_rung_costs_is_known_and_shared(bench, tmp_path):
    graph = chain(attempts=[{"degraded": "half of it"}])
    bench.agree(make_run(tmp_path / "first"), graph, False, False, False)
    second = make_run(tmp_path / "second")
    bench.agree(second, graph, True, True, True)
    assert second.manifest.degraded == {"trouble": "half of it"}


def test_a_degraded_result_of_a_lower_rung_stays_in_its_run(bench, tmp_path):
    graph = chain(attempts=[{"params": {"mode": "raise"}}, {"degraded": "half of it"}])
    first = make_run(tmp_path / "first")
    bench.agree(first, graph, False, False, False)
    bench.agree(first, graph, True, True, True)
    second = make_run(tmp_path / "second")
    assert bench.plan(second, graph) == {"source": True, "trouble": False, "sink": False}


def test_a_node_that_is_switched_off_is_told_as_off():
    graph = needs.profile_graph("full_12gb")
    rows = [plan_row(node, False, "", NO_LIMIT) for node in graph.nodes.values()]
    assert {row.node: plan_cells(row)[2] for row in rows if row.off} == {"prompt": "off"}


def test_a_plan_writes_nothing_and_says_why(bench, tmp_path):
    run = make_run(tmp_path / "run")
    before = run.manifest.model_copy(deep=True)
    [source, trouble, _] = predict(chain(attempts=[{"device": "cuda"}, {}]), run, bench.index)
    assert source.reason == "no finished run has these inputs and params"
    assert trouble.reason == "reads what source will make"
    assert trouble.ladder == ("cuda float32", "cpu float32")
    assert run.manifest == before
    shutil.rmtree(run.path)
    assert list(tmp_path.iterdir()) == []
