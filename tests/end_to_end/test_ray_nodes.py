"""Nodes of a Ray cluster that do not fit together are named before any shard is begun."""

from __future__ import annotations

import sys

import pytest

from devtools.fakes import ray_nodes
from orchestrator import __version__
from orchestrator.api.request import Request
from orchestrator.errors import UsageError
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters of one machine"),
]


@pytest.fixture(scope="module")
def cluster():
    with ray_nodes.opened(2, 2) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(cluster):
    """In place of the check of all tests, which does not know the cluster's own processes."""


WEIGHTS = {"net": "1"}


def fitting(prepared):
    """What a node answers that would do the same work."""
    from orchestrator.api import ray_task

    return {
        "version": __version__,
        "error": None,
        "profile": "sketch",
        "settings": ray_task.settings_digest(prepared),
        "weights": WEIGHTS,
    }


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no folder", "cannot use the directory of the batch"),
        ("another folder", "has another"),
        ("another version", "has version 9.9"),
        ("no program", "cannot run this program"),
        ("another profile", "would take profile full_12gb, this machine sketch"),
        ("other settings", "has other settings of profile sketch"),
        ("refused", "there is no cuda:3 here"),
        ("other weights", "have different weights net"),
        ("no weights", "has no weights net"),
    ],
)
def test_a_node_that_does_not_fit_is_named(what, told, cluster, tmp_path, monkeypatch):
    """What such a node would answer: all nodes are this machine here."""
    from orchestrator.api import ray_cluster
    from orchestrator.api.messages import error_fields

    prepared = prepare(Options(profile="sketch"))
    good = fitting(prepared)
    bad = {
        "another version": {"version": "9.9"},
        "another profile": {"profile": "full_12gb"},
        "other settings": {"settings": "x"},
        "refused": {"error": error_fields(UsageError("there is no cuda:3 here"))},
        "other weights": {"weights": {"net": "2"}},
        "no weights": {"weights": {"net": ""}},
    }
    answers = {**good, **bad.get(what, {})}

    def look(line, folder, token, answer, config=None):
        from pathlib import Path

        content = (Path(folder) / token).read_text()
        if what == "no folder":
            raise FileNotFoundError(2, "No such file or directory", folder)
        if what == "no program":
            raise ModuleNotFoundError("No module named 'orchestrator'")
        if what != "another folder":
            (Path(folder) / answer).write_text(content)
        return good if answer.endswith(".0") else answers

    monkeypatch.setattr(ray_cluster.ray_task, "look", look)
    request = Request("batch", Options(profile="sketch"))
    with ray_cluster.connected(cluster.address) as ray:
        nodes = ray_cluster.nodes_of(ray, ray_cluster.Slots(2, 0, 2))
        assert len(nodes) == 2
        with pytest.raises(UsageError) as raised:
            ray_cluster.require_fit(ray, nodes, request, prepared, tmp_path)
    assert told in raised.value.message
    assert "node" in raised.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_has_left_is_left_out(cluster, tmp_path, monkeypatch):
    """Ray lists it for some seconds more, and refuses it work."""
    from orchestrator.api import ray_cluster

    prepared = prepare(Options(profile="sketch"))
    answer = fitting(prepared)

    def look(line, folder, token, name, config=None):
        from pathlib import Path

        (Path(folder) / name).write_text((Path(folder) / token).read_text())
        return answer

    monkeypatch.setattr(ray_cluster.ray_task, "look", look)
    request = Request("batch", Options(profile="sketch"))
    gone = ray_cluster.ClusterNode("a" * 56, "gone (192.0.2.9)")
    with ray_cluster.connected(cluster.address) as ray:
        there = ray_cluster.nodes_of(ray, ray_cluster.Slots(2, 0, 2))
        found = ray_cluster.require_fit(ray, [gone, *there], request, prepared, tmp_path)
        assert found == there
        with pytest.raises(UsageError, match="no node of the cluster"):
            ray_cluster.require_fit(ray, [gone], request, prepared, tmp_path)
    assert list(tmp_path.iterdir()) == []
