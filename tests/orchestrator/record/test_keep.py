"""What is let go of a run, and when it is done as it is."""

from __future__ import annotations

import struct

import pytest

from devtools.fakes.parts import finish_node, make_run, make_stage
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import NodeConfig, Profile
from orchestrator.record.cache import CacheIndex, key_parts, node_key
from orchestrator.record.keep import begin_anew, is_settled, let_go
from orchestrator.record.preview_sheet import PreviewSheet
from orchestrator.record.result_folder import write_result
from orchestrator.record.run_directory import RESULT, RunDirectory


@pytest.fixture
def graph(monkeypatch) -> Graph:
    make_stage(monkeypatch, "begin", reads="input_image", writes="glb obj")
    return Graph.from_profile(Profile(nodes={"begin": NodeConfig(stage="begin")}))


@pytest.fixture
def run(tmp_path, graph) -> RunDirectory:
    """A run that is done, with two mesh files."""
    run = make_run(tmp_path / "run")
    node = graph.nodes["begin"]
    finish_node(
        run,
        "begin",
        {"glb": b"glTF", "obj": b"v 0 0 0"},
        node_key(node, 42, run),
        key_parts=key_parts(node, 42, run),
        stage="begin",
    )
    run.manifest.state = "done"
    return run


def left(run: RunDirectory) -> set[str]:
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    return files - {"run.json", "events.jsonl", "input.txt"}


RESULTS = {
    "all": {"begin/glb.txt", "begin/obj.txt", "result/mesh.glb", "result/mesh.obj"},
    "result": {"result/mesh.glb", "result/mesh.obj"},
    "mesh": {"result/mesh.glb"},
}


@pytest.mark.parametrize("keep", RESULTS)
def test_what_stays(run, graph, keep):
    run.manifest.keep = keep
    write_result(run, PreviewSheet(run))
    for _ in range(2):  # whatever died in between is made good by the next
        let_go(run, None)
        assert left(run) == RESULTS[keep]
        assert RunDirectory.open(run.path).manifest.kept == keep
    assert is_settled(run, graph) == (keep != "all")
    assert not is_settled(run, graph, {"begin"})


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_what_is_not_done_keeps_everything(run, state):
    write_result(run, PreviewSheet(run))
    run.manifest.keep, run.manifest.state = "mesh", state
    let_go(run, None)
    assert left(run) == RESULTS["all"]


def test_files_of_yours_stay(run):
    run.manifest.keep = "mesh"
    write_result(run, PreviewSheet(run))
    (run.path / "begin" / "notes.txt").write_text("mine")
    let_go(run, None)
    assert left(run) == {"begin/notes.txt", "result/mesh.glb"}


def test_other_settings_and_a_lost_mesh_are_not_settled(run, graph, monkeypatch):
    run.manifest.keep = "result"
    write_result(run, PreviewSheet(run))
    let_go(run, None)
    run.manifest.seed = 7
    assert not is_settled(run, graph)
    run.manifest.seed = 42
    (run.path / RESULT / "mesh.obj").unlink()
    assert not is_settled(run, graph)
    begin_anew(run)
    assert run.manifest.nodes["begin"].state == "pending"
    assert "was not kept (--keep result)" in run.manifest.nodes["begin"].reason


def test_no_entry_of_the_index_promises_what_goes(run, tmp_path):
    index, other = CacheIndex(tmp_path), make_run(tmp_path / "other")
    record = run.manifest.nodes["begin"]
    index.add(record.key, run, "begin")
    finish_node(other, "begin", {"glb": b"glTF", "obj": b""}, "blake2b:other")
    index.add("blake2b:other", other, "begin")
    run.manifest.keep = "result"
    write_result(run, PreviewSheet(run))
    let_go(run, index)
    assert index.find(record.key) is None
    assert index.find("blake2b:other") is not None
    assert len(list((tmp_path / ".cache").iterdir())) == 1


def test_a_mesh_that_ends_in_the_middle_is_no_result(run, graph) -> None:
    run.manifest.keep = "result"
    write_result(run, PreviewSheet(run))
    let_go(run, None)
    mesh = run.path / RESULT / "mesh.glb"
    mesh.write_bytes(struct.pack("<4sII", b"glTF", 2, 40) + bytes(28))
    assert is_settled(run, graph), "edited by its owner, and whole"
    mesh.write_bytes(mesh.read_bytes()[:-1])
    assert not is_settled(run, graph)
