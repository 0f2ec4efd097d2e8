"""The end of a run is recorded, whatever becomes of its result folder."""

from __future__ import annotations

from devtools.fakes.parts import finish_node, make_run, make_stage
from orchestrator.commands.closing import close_books
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.layers import NodeConfig, Profile
from orchestrator.record import result_folder
from orchestrator.record.cache import node_key
from orchestrator.record.run_directory import EVENTS, RunDirectory
from orchestrator.running.jobs import Job


def test_a_result_that_cannot_be_written_does_not_cost_the_record(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(result_folder, "write_result", refuse)
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    graph = Graph.from_profile(Profile(nodes={"begin": NodeConfig(stage="begin")}))
    run = make_run(tmp_path / "run")
    finish_node(run, "begin", {"a": b"text"}, node_key(graph.nodes["begin"], 42, run))
    close_books(Job("job", run, graph, graph))
    manifest = RunDirectory.open(run.path).manifest
    assert manifest.nodes["begin"].state == "done"
    assert manifest.state == "failed"
    assert "result/ cannot be written: No space left" in manifest.error
    assert "No space left" in (run.path / EVENTS).read_text()
