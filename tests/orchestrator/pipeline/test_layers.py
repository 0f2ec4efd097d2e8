"""Layers of settings: which one wins, where a value came from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from devtools.fakes.parts import make_stage
from orchestrator.errors import ConfigError, UnknownNameError, UsageError
from orchestrator.pipeline import layers
from orchestrator.pipeline.layers import Settings
from stages.contract import Params

PROFILE = """
description: for tests
seed: 7
nodes:
  first:
    stage: made
    params: {size: 10, label: profile}
    attempts: [{device: cuda, dtype: float16}, {params: {size: 4}, degraded: smaller}]
  second: {stage: made, reads: {picture: other}}
runtime: {threads: 3}
"""


class MadeParams(Params):
    """`timeout` is also the name of a field of a node."""

    size: int = Field(5, ge=1, le=100, description="")
    label: str = Field("default", description="")
    ratios: list[float] = Field(default_factory=lambda: [1.0, 2.0], description="")
    timeout: int = Field(1, description="")


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch) -> None:
    """One shipped profile, `tiny`, over one stage, `made`."""
    make_stage(monkeypatch, "made", reads="picture?", writes="text", params=MadeParams)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(PROFILE)
    monkeypatch.setattr(layers, "config_folder", lambda: tmp_path / "configs")


@pytest.fixture
def user_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def row(settings: Settings, path: str) -> tuple[object, str]:
    return next((value, source) for at, value, source in settings.rows() if at == path)


def test_a_file_wins_over_the_profile_and_a_set_over_both(user_file):
    file = user_file("seed: 8\nnodes: {first: {params: {label: file, size: 20}}}")
    settings = layers.load("tiny", file, ["first.size=30"])
    assert row(settings, "nodes.first.params.size") == (30, "--set first.size=30")
    assert row(settings, "nodes.first.params.label") == ("file", "file mine.yaml")
    assert row(settings, "seed") == (8, "file mine.yaml")
    assert row(settings, "runtime.threads") == (3, "profile tiny")
    assert row(settings, "nodes.second.params.size") == (5, layers.DEFAULT)
    assert row(settings, "runtime.prefetch") == (True, layers.DEFAULT)
    assert row(settings, "nodes.second.reads.picture") == ("other", "profile tiny")


def test_the_last_of_several_sets_wins():
    settings = layers.load("tiny", sets=["seed=1", "seed=2"])
    assert row(settings, "seed") == (2, "--set seed=2")


def test_a_list_replaces_the_list_below_it(user_file):
    file = user_file("nodes: {first: {attempts: [{tries: 5}], params: {ratios: [3]}}}")
    settings = layers.load("tiny", file)
    [rung] = settings.profile.nodes["first"].attempts
    assert (rung.tries, rung.device, rung.degraded) == (5, "cpu", "")
    assert row(settings, "nodes.first.params.ratios") == ([3.0], "file mine.yaml")
    assert row(settings, "nodes.first.attempts")[1] == "file mine.yaml"


def test_layers_do_not_leak_into_the_next_load(user_file):
    layers.load("tiny", user_file("seed: 8"), ["first.size=30"])
    settings = layers.load("tiny")
    assert settings.profile.seed == 7
    assert row(settings, "nodes.first.params.size") == (10, "profile tiny")


@pytest.mark.parametrize("layer", ["file", "set"])
def test_seed_0_is_a_seed(user_file, layer):
    file = user_file("seed: 0") if layer == "file" else None
    settings = layers.load("tiny", file, ["seed=0"] if layer == "set" else [])
    assert settings.profile.seed == 0
    assert row(settings, "seed")[1] != layers.DEFAULT


def test_a_set_prefers_the_stages_param_to_the_nodes_field():
    settings = layers.load("tiny", sets=["first.timeout=9", "first.load_timeout=11"])
    node = settings.profile.nodes["first"]
    assert (node.params["timeout"], node.timeout, node.load_timeout) == (9, 600.0, 11.0)


def test_a_set_takes_yaml_values_and_equals_signs():
    settings = layers.load(
        "tiny", sets=["first.ratios=[0.5, 1]", "second.label=a=b", "runtime.prefetch=false"]
    )
    assert settings.profile.nodes["first"].params["ratios"] == [0.5, 1]
    assert settings.profile.nodes["second"].params["label"] == "a=b"
    assert settings.profile.runtime.prefetch is False


def test_a_set_reaches_into_a_mapping():
    settings = layers.load("tiny", sets=["first.reads.picture=text"])
    assert settings.profile.nodes["first"].reads == {"picture": "text"}


@pytest.mark.parametrize(
    ("layer", "where", "meant"),
    [
        ("sed: 1", "", "seed"),
        ("nodes: {first: {stages: made}}", "nodes.first", "stage"),
        ("nodes: {first: {attempts: [{devices: cpu}]}}", "nodes.first.attempts", "device"),
        ("nodes: {first: {params: {sizes: 3}}}", "node first (made)", "size"),
        ("nodes: {first: {attempts: [{params: {lable: x}}]}}", "node first (made)", "label"),
        ("runtime: {thread: 1}", "runtime", "threads"),
        ("nodes: {first: {stage: mad}}", "node first", "made"),
        (["frist.size=1"], "--set frist.size=1", "first"),
        (["first.siez=1"], "node first", "size"),
        (["first.attempt=1"], "node first", "attempts"),
        (["runtime.thread=1"], "runtime", "threads"),
        (["sed=1"], "--set sed=1", "seed"),
        (["first.reads.picture.deep=1", "seedd=1"], "--set seedd=1", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest_that_exists(user_file, layer, where, meant):
    file, sets = (user_file(layer), []) if isinstance(layer, str) else (None, layer)
    with pytest.raises(UnknownNameError) as caught:
        layers.load("tiny", file, sets)
    assert f'did you mean "{meant}"?' in caught.value.hint
    assert caught.value.message.endswith(f" in {where}" if where else '"')


def test_an_unknown_profile_names_the_nearest_that_exists():
    with pytest.raises(UnknownNameError, match='did you mean "tiny"'):
        layers.load("tinny")


@pytest.mark.parametrize("profile", ["../configs/tiny", "tiny.yaml", "none", ""])
def test_a_profile_is_a_name_and_not_a_path(profile):
    with pytest.raises(UnknownNameError):
        layers.load(profile)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: [1", "is not valid YAML"),
        ("seed: 2026-13-45", "is not valid YAML"),
        ("seed: !!python/object/apply:os.getpid []", "is not valid YAML"),
        ("- 1\n- 2", "expected a mapping at the top, got list"),
        ("just text", "expected a mapping at the top, got str"),
        ("seed: ten", "seed: "),
        ("seed: -1", "seed: "),
        ("seed: 9223372036854775808", "seed: "),
        ("nodes: [made]", "nodes: expected a mapping"),
        ("nodes:", "nodes: expected a mapping"),
        ("nodes: {first: made}", "nodes.first: expected a mapping, got str"),
        ("nodes: {first:}", "nodes.first: expected a mapping, got NoneType"),
        ("nodes: {third: {params: {}}}", "nodes.third.stage: Field required"),
        ("nodes: {first: {stage: 5}}", "nodes.first.stage: "),
        ("nodes: {first: {attempts: 2}}", "nodes.first.attempts: expected a list"),
        ("nodes: {first: {attempts: {device: cpu}}}", "nodes.first.attempts: expected a list"),
        ("nodes: {first: {attempts: []}}", "nodes.first.attempts: "),
        ("nodes: {first: {attempts: [cpu]}}", "nodes.first.attempts: expected a mapping, got str"),
        ("nodes: {first: {attempts: [{device: tpu}]}}", "nodes.first.attempts.0.device: "),
        ("nodes: {first: {attempts: [{tries: 0}]}}", "nodes.first.attempts.0.tries: "),
        ("nodes: {first: {attempts: [{params: {size: 0}}]}}", "first.size: "),
        ("nodes: {first: {params: {size: 101}}}", "first.size: "),
        ("nodes: {first: {params: {size: huge}}}", "first.size: "),
        ("nodes: {first: {params: 5}}", "nodes.first.params: "),
        ("nodes: {first: {timeout: 0}}", "nodes.first.timeout: "),
        ("nodes: {first: {reads: {picture: [a]}}}", "nodes.first.reads.picture: "),
        ("runtime: fast", "runtime: expected a mapping, got str"),
        ("runtime: {cpu_slots: -1}", "runtime.cpu_slots: "),
        ("runtime: {heartbeat_interval: 61}", "runtime.heartbeat_interval: "),
    ],
)
@pytest.mark.parametrize("sets", [(), ("second.size=3",)], ids=["alone", "with_a_set"])
def test_a_file_that_cannot_be_right_is_refused_with_the_place(user_file, text, says, sets):
    file = user_file(text)
    with pytest.raises(ConfigError) as caught:
        layers.load("tiny", file, sets)
    assert says in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.exit_code == 2


def test_a_file_is_not_blamed_for_a_set(user_file):
    file = user_file("nodes: {first: {params: {label: x}}}")
    for wrong in ("first.size=huge", "first.size=101", "first.stage=mad"):
        with pytest.raises(UsageError) as caught:
            layers.load("tiny", file, [wrong])
        assert str(file) not in caught.value.message


def test_a_set_can_mend_a_value_below_it(user_file):
    file = user_file("nodes: {first: {params: {size: 101}}}")
    settings = layers.load("tiny", file, ["first.size=100"])
    assert row(settings, "nodes.first.params.size")[0] == 100


def test_a_set_on_a_node_whose_stage_is_no_name_is_refused(user_file):
    with pytest.raises(UnknownNameError, match='unknown stage "5"'):
        layers.load("tiny", user_file("nodes: {first: {stage: 5}}"), ["first.size=1"])


@pytest.mark.parametrize(
    "name", ["../away", "a/b", "a.b", "", "1st", "result", "Result", "input", "seed", "runtime"]
)
def test_a_node_cannot_have_a_name_that_means_something_else(user_file, name):
    with pytest.raises(ConfigError, match="cannot be the name of a node"):
        layers.load("none", user_file(f"nodes: {{'{name}': {{stage: made}}}}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("first.size", "expected NODE.PARAM=VALUE"),
        ("=3", "expected NODE.PARAM=VALUE"),
        ("first..size=3", "expected NODE.PARAM=VALUE"),
        ("first=3", "which param of first?"),
        ("first.size=[1", "not valid YAML"),
        ("first.size=2026-02-30", "not valid YAML"),
        ("first.size=0", "first.size: "),
        ("first.size=", "first.size: "),
        ("first.size.deeper=1", "first.size: "),
        ("runtime=3", "runtime: expected a mapping"),
        ("seed.x=3", "seed: "),
        ("first.stage=5", "nodes.first.stage: "),
    ],
)
def test_a_set_that_cannot_be_right_is_refused(text, says):
    with pytest.raises(ConfigError) as caught:
        layers.load("tiny", sets=[text])
    assert says in caught.value.message


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not_text"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        layers.load("tiny", path)


def test_an_empty_file_changes_nothing(user_file):
    assert layers.load("tiny", user_file("# nothing")).profile == layers.load("tiny").profile


def test_profile_none_lets_a_file_describe_a_whole_graph(user_file):
    file = user_file("profile: none\nnodes: {only: {stage: made}}")
    assert layers.base_profile(file) == "none"
    settings = layers.load("none", file)
    assert list(settings.profile.nodes) == ["only"]
    assert settings.profile.seed == 42


def test_a_file_may_name_the_profile_that_it_builds_on(user_file):
    assert layers.base_profile(user_file("profile: tiny\nseed: 1")) == "tiny"
    assert layers.base_profile(user_file("seed: 1")) is None
    assert layers.base_profile(None) is None


def test_a_record_keeps_its_values_and_where_they_came_from(user_file):
    old = layers.load("tiny", user_file("seed: 0"), ["first.size=30"])
    data = old.profile.model_dump(mode="json")
    again = layers.from_record("tiny", data, old.sources, ["first.label=late"])
    assert again.profile.seed == 0
    assert row(again, "nodes.first.params.size") == (30, "--set first.size=30")
    assert row(again, "nodes.first.params.label") == ("late", "--set first.label=late")
    assert row(again, "seed") == (0, "file mine.yaml")
    assert data["nodes"]["first"]["params"]["label"] == "profile", "the record itself stays"


def test_a_record_without_a_set_is_the_same_profile():
    old = layers.load("tiny")
    again = layers.from_record("tiny", old.profile.model_dump(mode="json"), old.sources)
    assert again == old


def test_a_rungs_params_lie_on_top_of_the_nodes():
    node = layers.load("tiny").profile.nodes["first"]
    assert layers.params_of("first", node).size == 10
    below = layers.params_of("first", node, node.attempts[1])
    assert (below.size, below.label) == (4, "profile")
