"""Equal keys mean equal outputs, and a hit is only taken from files that are whole."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from pydantic import Field

from devtools.fakes.parts import finish_node, make_run, make_stage
from orchestrator.pipeline.graph import Graph, Node
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile, Runtime
from orchestrator.pipeline.weights_record import WeightsRecord
from orchestrator.record.cache import (
    FOLDER,
    CacheIndex,
    changed,
    demote_stale,
    key_of,
    key_parts,
    node_key,
)
from orchestrator.record.run_directory import MANIFEST, RunDirectory
from stages.contract import Params

KEY = "blake2b:0123"


class SizeParams(Params):
    size: int = Field(5, description="")


@pytest.fixture(autouse=True)
def made_up_stages(monkeypatch) -> None:
    make_stage(monkeypatch, "begin", reads="input_image", writes="a extra", params=SizeParams)
    make_stage(monkeypatch, "end", reads="a extra?", writes="b")
    make_stage(monkeypatch, "other", reads="input_image", writes="a extra", params=SizeParams)


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = make_run(tmp_path / "run")
    finish_node(run, "begin", {"a": b"one"}, key=KEY)
    return run


@pytest.fixture
def index(tmp_path, run) -> CacheIndex:
    """An index that knows the node `begin` of `run`."""
    index = CacheIndex(tmp_path)
    index.add(KEY, run, "begin")
    return index


def node(name: str, stage: str = "begin", runtime: Runtime | None = None, **config) -> Node:
    nodes = {"begin": NodeConfig(stage="begin")} if name == "end" else {}
    nodes[name] = NodeConfig(stage=stage, **config)
    profile = Profile(nodes=nodes, runtime=runtime or Runtime())
    return Graph.from_profile(profile).nodes[name]


def test_a_key_is_the_same_for_the_same_question(run, tmp_path):
    twin = make_run(tmp_path / "twin")
    assert node_key(node("begin"), 42, run) == node_key(node("begin"), 42, twin)


def test_a_key_knows_the_defaults(run):
    spelled_out = node("begin", params={"size": 5})
    assert node_key(spelled_out, 42, run) == node_key(node("begin"), 42, run)


@pytest.mark.parametrize(
    "same",
    [
        {"runtime": Runtime(threads=7, cpu_slots=1, inline_max_bytes=0, previews=False)},
        {"timeout": 5.0, "load_timeout": 6.0},
        {"attempts": [Attempt(tries=9)]},
        {"attempts": [Attempt(), Attempt(degraded="less")]},
    ],
    ids=["runtime", "timeouts", "tries", "lower_rungs"],
)
def test_how_a_stage_is_run_does_not_change_the_key(run, same):
    assert node_key(node("begin", **same), 42, run) == node_key(node("begin"), 42, run)


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"size": 6}},
        {"attempts": [Attempt(params={"size": 6})]},
        {"attempts": [Attempt(dtype="float16")]},
        {"stage": "other"},
    ],
    ids=["params", "params_of_the_first_rung", "dtype", "stage"],
)
def test_what_changes_the_result_changes_the_key(run, other):
    assert node_key(node("begin", **other), 42, run) != node_key(node("begin"), 42, run)


def test_another_version_of_the_stage_changes_the_key(run):
    newer = replace(node("begin"), version=2)
    assert node_key(newer, 42, run) != node_key(node("begin"), 42, run)


def test_every_seed_has_its_own_key(run):
    assert len({node_key(node("begin"), seed, run) for seed in (0, 1, 42)}) == 3


def test_a_stage_without_randomness_has_one_key_for_all_seeds(run):
    seedless = replace(node("begin"), uses_seed=False)
    assert len({node_key(seedless, seed, run) for seed in (0, 1, 42)}) == 1


def loads(*weights: WeightsRecord) -> Node:
    return replace(node("begin"), weights=(weights, (WeightsRecord(name="of a lower rung"),)))


def net(digest: str = "blake2b:1", **fields) -> WeightsRecord:
    return WeightsRecord(**{"name": "net", "place": "/models/net", "digest": digest, **fields})


def test_other_weights_change_the_key_and_where_they_lie_does_not(run):
    key = node_key(loads(net()), 42, run)
    assert key == node_key(loads(net(place="/elsewhere", revision="c2")), 42, run)
    others = (loads(net("blake2b:2")), loads(net(), net("blake2b:3", name="lora")), node("begin"))
    assert key not in {node_key(other, 42, run) for other in others}


def test_optional_weights_that_are_missing_are_another_case_than_those_that_are_there(run):
    without = loads(net("", place="", optional=True))
    assert node_key(without, 42, run) != node_key(loads(net(optional=True)), 42, run)


def test_without_the_weights_the_last_result_counts_whatever_they_were(tmp_path):
    run, index = make_run(tmp_path / "run"), CacheIndex(tmp_path)
    parts = key_parts(loads(net()), 42, run)
    finish_node(run, "begin", {"a": b"one"}, key=key_of(parts), key_parts=parts)
    index.add(key_of(parts), run, "begin")
    missing, changed_since = loads(net("", place="")), loads(net("blake2b:2"))
    assert index.find(node_key(missing, 42, run)).run.path == run.path.resolve()
    assert index.find(node_key(changed_since, 42, run)) is None
    assert index.find(node_key(missing, 7, run)) is None, "another seed"
    whole = Graph([missing])
    demote_stale(whole, run)
    assert run.manifest.nodes["begin"].state == "done"
    demote_stale(Graph([changed_since]), run)
    assert run.manifest.nodes["begin"].state == "pending"


def test_another_picture_changes_the_key_of_its_reader(run, tmp_path):
    other = make_run(tmp_path / "other", picture=b"4 5 6")
    assert node_key(node("begin"), 42, other) != node_key(node("begin"), 42, run)


def test_another_content_upstream_changes_the_key_of_its_reader(run, tmp_path):
    twin, other = make_run(tmp_path / "twin"), make_run(tmp_path / "other")
    finish_node(twin, "begin", {"a": b"one"}, key="another way to the same content")
    finish_node(other, "begin", {"a": b"two"}, key=KEY)
    end = node("end", "end")
    assert node_key(end, 42, twin) == node_key(end, 42, run)
    assert node_key(end, 42, other) != node_key(end, 42, run)


def test_an_optional_artifact_that_was_not_made_is_part_of_the_key(run, tmp_path):
    fuller = make_run(tmp_path / "fuller")
    finish_node(fuller, "begin", {"a": b"one", "extra": b"two"}, key=KEY)
    end = node("end", "end")
    assert node_key(end, 42, fuller) != node_key(end, 42, run)


def test_what_was_added_is_found_again(index, run):
    hit = index.find(KEY)
    assert (hit.run.path, hit.node) == (run.path.resolve(), "begin")
    assert index.find("blake2b:4567") is None


def test_an_empty_index_finds_nothing(tmp_path):
    assert CacheIndex(tmp_path / "nowhere").find(KEY) is None


def test_a_run_made_by_a_relative_path_is_found_from_elsewhere(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CacheIndex(tmp_path).add(KEY, RunDirectory.open(run.path.relative_to(tmp_path)), "begin")
    monkeypatch.chdir("/")
    assert CacheIndex(tmp_path).find(KEY).run.path == run.path.resolve()


def test_an_adopted_node_is_whole_with_its_previews(index, run, tmp_path):
    (run.path / "begin" / "a.png").write_bytes(b"preview")
    mine = make_run(tmp_path / "mine")
    record = index.adopt(index.find(KEY), mine, "start")
    mine.manifest.nodes["start"] = record
    assert (record.state, record.key, record.attempts) == ("done", KEY, [])
    assert record.cached_from == str(run.path.resolve())
    assert mine.intact("start") == ""
    assert (mine.path / "start" / "a.png").read_bytes() == b"preview"


def test_what_an_editor_does_to_an_adopted_file_is_noticed_in_all_runs_that_it_reaches(
    index, run, tmp_path
):
    mine = make_run(tmp_path / "mine")
    mine.manifest.nodes["begin"] = index.adopt(index.find(KEY), mine, "begin")
    with (mine.path / "begin" / "a.txt").open("ab") as stream:
        stream.write(b" edited")
    assert mine.intact("begin") == "a.txt was changed"
    changed = (run.path / "begin" / "a.txt").read_bytes() != b"one"
    assert run.intact("begin") == ("a.txt was changed" if changed else "")
    assert (index.find(KEY) is None) == changed


def test_a_run_that_computes_again_leaves_the_files_that_it_shares(index, run, tmp_path):
    mine = make_run(tmp_path / "mine")
    mine.manifest.nodes["begin"] = index.adopt(index.find(KEY), mine, "begin")
    finish_node(mine, "begin", {"a": b"two"}, key="blake2b:other")
    assert (mine.path / "begin" / "a.txt").read_bytes() == b"two"
    assert run.intact("begin") == ""


def test_an_adopted_node_is_on_disk_before_the_record_can_say_so(index, run, tmp_path, monkeypatch):
    synced = set()

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)

    mine = make_run(tmp_path / "mine")
    hit = index.find(KEY)
    monkeypatch.setattr(os, "fsync", fsync)
    index.adopt(hit, mine, "start")
    folder = mine.path / "start"
    assert {path.stat().st_ino for path in (folder, *folder.iterdir())} <= synced


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run.path / "begin" / "a.txt").unlink(),
        lambda run: (run.path / "begin" / "a.txt").write_bytes(b"two"),
        lambda run: (run.path / MANIFEST).unlink(),
        lambda run: (run.path / MANIFEST).write_bytes(b"{"),
        lambda run: run.path.rename(run.path.with_name("moved")),
        lambda run: finish_node(run, "begin", {"a": b"one"}, key="blake2b:newer"),
        lambda run: finish_node(run, "begin", {"a": b"one"}, key=KEY, degraded="smaller"),
        lambda run: set_state(run, "running"),
        lambda run: set_state(run, "failed"),
        lambda run: (run.manifest.nodes.clear(), run.save()),
    ],
    ids=["file_gone", "file_changed", "no_record", "bad_record", "moved", "other_key", "degraded",
         "running", "failed", "no_node"],
)  # fmt: skip
def test_a_source_that_is_not_whole_is_no_hit(index, run, damage):
    damage(run)
    assert index.find(KEY) is None


def set_state(run: RunDirectory, state: str) -> None:
    run.manifest.nodes["begin"].state = state
    run.save()


@pytest.mark.parametrize("entry", [b"", b"{", b"[]", b"5", b"{}", b'{"run": 5, "node": "begin"}'])
def test_a_damaged_entry_is_no_hit(index, tmp_path, entry):
    [file] = (tmp_path / FOLDER).iterdir()
    file.write_bytes(entry)
    assert index.find(KEY) is None


def test_the_last_one_added_under_a_key_is_found(index, tmp_path):
    newer = make_run(tmp_path / "newer")
    finish_node(newer, "begin", {"a": b"one"}, key=KEY)
    index.add(KEY, newer, "begin")
    assert index.find(KEY).run.path == newer.path.resolve()
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_changes_are_listed_by_their_dotted_path():
    old = {"seed": 1, "nodes": {"a": {"size": 1, "same": 2}, "gone": {}}, "kept": [1]}
    new = {"seed": 2, "nodes": {"a": {"size": 3, "same": 2}}, "kept": [1], "more": 1}
    assert changed(old, new) == ["more", "nodes.a.size", "nodes.gone", "seed"]
    assert changed(old, old) == []
