"""Who gets the next card."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from devtools.fakes.parts import make_run, make_stage
from orchestrator.pipeline.graph import Graph, Node
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile
from orchestrator.running.jobs import Job
from orchestrator.running.leases import Leases
from orchestrator.running.schedule import Schedule
from orchestrator.running.spread import Spread
from orchestrator.system.gpu import Card


@dataclass
class Process:
    """As much of a session as is looked at."""

    node: Node
    state: str
    rung: int = 0
    card: Card | None = None
    ended: bool = False


@pytest.fixture
def graph(tmp_path, monkeypatch) -> Graph:
    make_stage(monkeypatch, "first", reads="input_image", writes="a")
    make_stage(monkeypatch, "second", reads="input_image", writes="b")
    on_gpu = [Attempt(device="cuda")]
    nodes = {name: NodeConfig(stage=name, attempts=on_gpu) for name in ("first", "second")}
    return Graph.from_profile(Profile(nodes=nodes))


def schedule_of(graph: Graph, tmp_path, cards: int, **standing: str) -> Schedule:
    job = Job("job", make_run(tmp_path / "run"), graph, graph)
    for name, value in standing.items():
        job.nodes[name].standing = value
    leases = Leases([Card(index, str(index)) for index in range(cards)], 1)
    return Schedule(graph, [job], leases, True, Spread(on_cards=cards))


def test_an_earlier_node_that_starts_anew_behind_a_crash_gets_the_card(graph, tmp_path):
    """The process of the later one was started ahead, and is ready before."""
    schedule = schedule_of(graph, tmp_path, 1, first="ready", second="ready")
    later = Process(graph.nodes["second"], "imported")
    restarted = Process(graph.nodes["first"], "starting")
    assert not schedule.may_take_card(later, [later, restarted])
    assert schedule.may_take_card(restarted, [later, restarted])


def test_a_second_card_is_not_kept_for_one_process(graph, tmp_path):
    schedule = schedule_of(graph, tmp_path, 2, first="ready", second="ready")
    later = Process(graph.nodes["second"], "imported")
    restarted = Process(graph.nodes["first"], "starting")
    assert schedule.may_take_card(later, [later, restarted])


@pytest.mark.parametrize("gone", [{"ended": True}, {"card": Card(1, "1")}], ids=["over", "has_one"])
def test_a_card_is_not_kept_for_who_waits_for_none(gone, graph, tmp_path):
    schedule = schedule_of(graph, tmp_path, 1, first="ready", second="ready")
    later = Process(graph.nodes["second"], "imported")
    assert schedule.may_take_card(later, [later, Process(graph.nodes["first"], "idle", **gone)])


def test_a_process_without_a_job_takes_no_card(graph, tmp_path):
    schedule = schedule_of(graph, tmp_path, 1, first="waiting", second="ready")
    early = Process(graph.nodes["first"], "imported")
    later = Process(graph.nodes["second"], "imported")
    assert not schedule.may_take_card(early, [early, later])
    assert schedule.may_take_card(later, [early, later])


def test_processes_of_one_node_load_after_each_other(graph, tmp_path):
    schedule = schedule_of(graph, tmp_path, 3, first="ready", second="ready")
    loads = Process(graph.nodes["first"], "loading", card=Card(0, "0"))
    waits = Process(graph.nodes["first"], "imported")
    other = Process(graph.nodes["second"], "imported")
    assert not schedule.may_take_card(waits, [loads, waits, other])
    assert schedule.may_take_card(other, [loads, waits, other]), "those of others meanwhile"
    loads.state = "running"
    assert schedule.may_take_card(waits, [loads, waits, other])
