"""Edges follow from artifact names."""

from __future__ import annotations

import pytest

from devtools.fakes.parts import make_stage
from orchestrator.errors import ConfigError, UnknownNameError
from orchestrator.pipeline.graph import Graph, Source
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile


@pytest.fixture(autouse=True)
def made_up_stages(monkeypatch) -> None:
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    make_stage(monkeypatch, "left", reads="a", writes="b")
    make_stage(monkeypatch, "right", reads="a hint?", writes="c")
    make_stage(monkeypatch, "join", reads="b c", writes="d")
    make_stage(monkeypatch, "hints", writes="hint")
    make_stage(monkeypatch, "again", reads="d", writes="a")
    make_stage(monkeypatch, "narcissus", reads="face", writes="face")


def graph(**nodes: str | NodeConfig) -> Graph:
    """Nodes by name; a str is a stage without anything else to say."""
    return Graph.from_profile(
        Profile(
            nodes={
                name: NodeConfig(stage=node) if isinstance(node, str) else node
                for name, node in nodes.items()
            }
        )
    )


def diamond() -> Graph:
    """In an order that is not the order of the edges."""
    return graph(join="join", left="left", right="right", begin="begin")


def test_edges_follow_the_names_and_not_the_order_in_the_file():
    found = diamond()
    assert found.nodes["join"].inputs == {"b": Source("left", "b"), "c": Source("right", "c")}
    order = list(found.nodes)
    assert order[0] == "begin"
    assert order[-1] == "join"


def test_nodes_that_do_not_depend_on_each_other_keep_the_files_order():
    found = graph(begin="begin", right="right", left="left")
    assert list(found.nodes) == ["begin", "right", "left"]


def test_the_users_picture_is_no_node():
    node = graph(begin="begin").nodes["begin"]
    assert node.inputs == {"input_image": Source("input", "input_image")}
    assert node.upstream == set()


def test_an_optional_input_is_an_edge_only_when_somebody_writes_it():
    without = graph(begin="begin", right="right")
    assert set(without.nodes["right"].inputs) == {"a"}
    with_it = graph(begin="begin", right="right", hints="hints")
    assert with_it.nodes["right"].inputs["hint"] == Source("hints", "hint")
    assert list(with_it.nodes).index("hints") < list(with_it.nodes).index("right")


def test_reads_gives_an_input_another_name():
    found = graph(begin="begin", left=NodeConfig(stage="left", reads={"a": "hint"}), hints="hints")
    assert found.nodes["left"].inputs == {"a": Source("hints", "hint")}


def test_reads_of_an_input_that_the_stage_does_not_have_is_refused():
    with pytest.raises(UnknownNameError, match='unknown input "hunt" in reads of node right') as it:
        graph(begin="begin", right=NodeConfig(stage="right", reads={"hunt": "a"}))
    assert 'did you mean "hint"' in it.value.hint


def test_two_writers_of_one_artifact_are_refused():
    with pytest.raises(ConfigError, match="begin and other both write a"):
        graph(begin="begin", other="begin")


def test_nobody_may_write_the_users_picture(monkeypatch):
    make_stage(monkeypatch, "forger", writes="input_image")
    with pytest.raises(ConfigError, match="both write input_image"):
        graph(forger="forger")


@pytest.mark.parametrize("enabled", [None, False], ids=["absent", "disabled"])
def test_an_input_that_nobody_writes_is_refused_with_the_way_out(enabled):
    nodes: dict[str, str | NodeConfig] = {"left": "left"}
    if enabled is False:
        nodes["begin"] = NodeConfig(stage="begin", enabled=False)
    with pytest.raises(ConfigError, match="node left reads a, which no enabled node") as caught:
        graph(**nodes)
    assert "nodes.left.reads" in caught.value.hint


def test_a_disabled_node_is_not_in_the_graph():
    found = graph(begin="begin", hints=NodeConfig(stage="hints", enabled=False), right="right")
    assert list(found.nodes) == ["begin", "right"]


def test_a_graph_without_nodes_is_refused():
    with pytest.raises(ConfigError, match="no enabled node"):
        graph(begin=NodeConfig(stage="begin", enabled=False))


def test_a_circle_is_refused_and_names_those_in_it():
    with pytest.raises(ConfigError, match="again, join, left, right wait for each other"):
        graph(left="left", right="right", join="join", again="again")


def test_a_node_that_reads_what_it_writes_is_a_circle():
    with pytest.raises(ConfigError, match="in a circle"):
        graph(me="narcissus")


def test_an_unknown_stage_names_the_node_and_the_nearest_stage():
    with pytest.raises(UnknownNameError, match='unknown stage "lefft" in node mine') as caught:
        graph(mine="lefft")
    assert 'did you mean "left"' in caught.value.hint


def test_ancestors_and_descendants_leave_the_node_itself_out():
    found = diamond()
    assert found.ancestors("join") == {"left", "right", "begin"}
    assert found.ancestors("left") == {"begin"}
    assert found.descendants("begin") == {"left", "right", "join"}
    assert found.descendants("right") == {"join"}
    assert found.descendants("join") == found.ancestors("begin") == set()


def test_until_keeps_what_the_node_needs_and_no_more():
    assert set(diamond().until("left").nodes) == {"begin", "left"}
    assert set(diamond().until("join").nodes) == set(diamond().nodes)
    with pytest.raises(UnknownNameError, match='unknown node "lft"'):
        diamond().until("lft")


def test_without_a_gpu_only_the_cpu_rungs_stay():
    cuda, cpu = Attempt(device="cuda"), Attempt(degraded="slow")
    found = graph(
        begin=NodeConfig(stage="begin", attempts=[cuda, cpu]),
        left=NodeConfig(stage="left", attempts=[cuda]),
    )
    on_cpu = found.on_device("cpu")
    assert on_cpu.nodes["begin"].config.attempts == [cpu]
    assert on_cpu.nodes["left"].config.attempts == [cuda], "it fails there, with its own error"
    assert found.nodes["begin"].config.attempts == [cuda, cpu]
    assert found.on_device("cuda").nodes == found.nodes


def test_a_cpu_rung_that_is_no_fallback_is_used_only_when_asked_for(monkeypatch):
    make_stage(monkeypatch, "big", writes="thing")
    attempts = [{"device": "cuda"}, {"device": "cpu", "fallback": False}]
    node = NodeConfig.model_validate({"stage": "big", "attempts": attempts})
    graph = Graph.from_profile(Profile(nodes={"big": node}))
    devices = {
        device: [a.device for a in graph.on_device(device).nodes["big"].config.attempts]
        for device in ("auto", "cuda:0", "cpu")
    }
    assert devices == {"auto": ["cuda"], "cuda:0": ["cuda"], "cpu": ["cpu"]}
