"""How jobs are laid over a machine: by picture or by stage, how many beside each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devtools.fakes.parts import make_stage
from orchestrator.pipeline.budget import GIB, Prediction
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile, Runtime
from orchestrator.pipeline.weights_record import WeightsRecord
from orchestrator.running import spread as spreading
from orchestrator.running.spread import (
    IDLE,
    LEAST_HOST,
    LEAST_SLOTS,
    UNMEASURED,
    at_once,
    goes_by_picture,
    spread,
)
from orchestrator.system import machine


@pytest.fixture
def cores(monkeypatch):
    def have(count: int) -> None:
        monkeypatch.setattr(machine, "cores", lambda: count)

    have(16)
    return have


@pytest.fixture
def graph(monkeypatch) -> Graph:
    """words (on the CPU) -> drawing (on a card where `on_card`)."""
    make_stage(monkeypatch, "words", reads="input_image", writes="a")
    make_stage(monkeypatch, "drawing", reads="a", writes="b")
    return graph_of("cpu")


def graph_of(device: str) -> Graph:
    rungs = [Attempt.model_validate({"device": device})]
    nodes = {"words": NodeConfig(stage="words"), "drawing": NodeConfig(stage="drawing")}
    nodes["drawing"] = nodes["drawing"].model_copy(update={"attempts": rungs})
    return Graph.from_profile(Profile(nodes=nodes))


def with_weights(graph: Graph, node: str, optional: bool = False, gib: float = 0.0) -> Graph:
    """The same, with weights for a node, of which a process was measured to take so much."""
    weights = ((WeightsRecord(name="w", optional=optional),),)
    predictions = {0: Prediction(0, int(gib * GIB), 9.0, "here")} if gib else {}
    changed = replace(graph.nodes[node], weights=weights, predictions=predictions)
    return Graph({**graph.nodes, node: changed}.values())


def test_where_nothing_is_loaded_pictures_go_through_one_by_one(graph, cores):
    assert goes_by_picture(graph)
    assert goes_by_picture(with_weights(graph, "words", optional=True)), "small ones come along"
    assert not goes_by_picture(with_weights(graph, "words"))
    assert not goes_by_picture(graph_of("cuda"))


@pytest.mark.parametrize(
    ("count", "jobs", "pictures", "threads"),
    [(16, 100, 16, 1), (16, 4, 4, 4), (16, 6, 6, 2), (2, 100, 2, 1), (1, 100, 1, 1), (16, 1, 1, 4)],
)
def test_as_many_pictures_as_cores_share_these(graph, cores, count, jobs, pictures, threads):
    cores(count)
    laid = spread(graph, Runtime(), jobs)
    assert (laid.pictures, laid.threads) == (pictures, threads)
    assert laid.slots >= pictures, "none of them waits for its turn"
    assert laid.crew("words") == pictures


def test_no_more_pictures_than_the_memory_holds(graph, cores):
    room = UNMEASURED + IDLE  # of its two stages one computes, and one waits
    assert spread(graph, Runtime(), 100, host=3 * room + 1).pictures == 3
    assert spread(graph, Runtime(), 100, host=1).pictures == 1
    known = with_weights(graph, "words", optional=True, gib=3.5)
    assert spread(known, Runtime(), 100, host=8 * GIB).pictures == 2


def test_what_the_user_says_of_threads_and_slots_holds(graph, cores):
    assert spread(graph, Runtime(cpu_slots=3), 100).pictures == 3
    few = spread(graph, Runtime(threads=8), 100)
    assert (few.pictures, few.threads) == (2, 8)


def test_a_cpu_node_with_weights_gets_a_process_for_a_few_cores_each(graph, cores):
    known = with_weights(graph_of("cuda"), "words", gib=4.0)
    laid = spread(known, Runtime(), 100, cards=1, host=100 * GIB)
    assert laid.pictures == 0
    assert laid.threads * laid.slots + laid.threads <= 16, "some cores are the card's"
    assert laid.crew("words") == laid.slots > LEAST_SLOTS
    assert laid.host == 100 * GIB - (laid.crew("words") - 1) * 4 * GIB
    assert spread(known, Runtime(), 2, cards=1, host=100 * GIB).crew("words") == 2
    assert spread(known, Runtime(), 100, cards=1, host=16 * GIB).crew("words") == 2
    assert spread(known, Runtime(), 100, cards=1, host=8 * GIB).crew("words") == 1


def test_weights_that_nobody_has_measured_are_loaded_once(graph, cores):
    unknown = with_weights(graph_of("cuda"), "words")
    assert spread(unknown, Runtime(), 100, cards=1, host=100 * GIB).crew("words") == 1


def test_few_cores_have_two_slots_beside_a_card_and_one_job_all_cores(graph, cores):
    on_card = graph_of("cuda")
    cores(2)
    laid = spread(on_card, Runtime(), 100, cards=1)
    assert (laid.slots, laid.threads) == (LEAST_SLOTS, 1)
    cores(16)
    assert spread(on_card, Runtime(), 1, cards=1).threads == spreading.MAX_THREADS


@pytest.mark.parametrize(
    ("cards", "jobs", "host", "most"),
    [
        (0, 5, 0, 1),
        (2, 1, 0, 1),
        (2, 5, 0, 2),
        (4, 5, 3 * LEAST_HOST, 3),
        (4, 5, LEAST_HOST // 2, 1),
        (4, 5, 100 * LEAST_HOST, 4),
    ],
)
def test_so_many_processes_share_the_hosts_memory(graph, cores, cards, jobs, host, most):
    assert at_once(cards, jobs, host) == most
    laid = spread(graph_of("cuda"), Runtime(), jobs, cards, host)
    assert (laid.on_cards, laid.host) == (most, host // most)
