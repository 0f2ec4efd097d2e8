"""`--allow-tf32`: one word for every node whose stage has the param."""

from __future__ import annotations

import json

import pytest

from orchestrator.errors import ConfigError
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare

NODES = ("multiview", "reference", "encode", "flux", "reconstruct")


def allowed(options: Options) -> dict[str, bool]:
    nodes = prepare(options).graph.nodes
    return {
        n: node.params["allow_tf32"] for n, node in nodes.items() if "allow_tf32" in node.params
    }


def test_it_reaches_every_node_that_has_the_param_and_no_other() -> None:
    assert allowed(Options(profile="full_12gb", device="cpu")) == dict.fromkeys(NODES, False)
    wanted = Options(profile="full_12gb", device="cpu", allow_tf32=True)
    assert allowed(wanted) == dict.fromkeys(NODES, True)


def test_a_profile_without_such_a_node_refuses_it() -> None:
    with pytest.raises(ConfigError, match="--allow-tf32"):
        prepare(Options(profile="sketch", allow_tf32=True))


def test_the_configuration_says_where_it_comes_from(kiss3d) -> None:
    words = ("config", "show", "--profile", "full_12gb", "--allow-tf32", "--fast", "--json")
    rows = {row["path"]: row for row in json.loads(kiss3d(*words).stdout)}
    assert rows["nodes.flux.params.allow_tf32"]["value"] is True
    assert "--set flux.allow_tf32" in rows["nodes.flux.params.allow_tf32"]["source"]
    assert rows["nodes.flux.params.attention"]["value"] == "auto"
