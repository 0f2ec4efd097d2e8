"""A page costs its run nothing: whatever goes wrong, the run is done. `open` makes it later."""

from __future__ import annotations

import errno
import json

import pytest

from devtools.fakes.parts import finish_node, make_run, make_stage
from devtools.page_runs import page_run
from orchestrator.commands import pages
from orchestrator.commands.closing import close_books, close_late
from orchestrator.errors import OutputError, RunLockedError, RunRecordError
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.layers import NodeConfig, Profile
from orchestrator.record.belongings import all_files, foreign
from orchestrator.record.cache import node_key
from orchestrator.record.manifest import AttemptRow
from orchestrator.record.run_directory import EVENTS, RESULT, RunDirectory
from orchestrator.report import run_page
from orchestrator.running.jobs import Job
from orchestrator.system.inside import Inside
from orchestrator.system.locks import run_lock


@pytest.fixture
def job(tmp_path, monkeypatch) -> Job:
    """A job whose one node is done."""
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    graph = Graph.from_profile(Profile(nodes={"begin": NodeConfig(stage="begin")}))
    run = make_run(tmp_path / "run")
    finish_node(run, "begin", {"a": b"text"}, node_key(graph.nodes["begin"], 42, run))
    return Job("job", run, graph, graph)


def test_the_end_of_a_run_writes_its_page(job):
    close_books(job)
    assert (job.run.path / RESULT / "report.html").is_file()
    assert RunDirectory.open(job.run.path).manifest.state == "done"


def test_without_a_page_there_is_none(job):
    close_books(job)
    close_books(job, report=False)
    assert not (job.run.path / RESULT / "report.html").exists(), "nor that of an earlier state"


FAULTS = {
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "a fault of ours": KeyError("x"),
    "no memory": MemoryError(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_costs_the_page_alone(fault, job, monkeypatch):
    def refuse(*_: object) -> None:
        raise FAULTS[fault]

    monkeypatch.setattr(run_page, "report_html", refuse)
    close_books(job)
    manifest = RunDirectory.open(job.run.path).manifest
    assert manifest.state == "done"
    assert manifest.error == ""
    assert job.run.manifest.no_report
    events = [json.loads(line) for line in (job.run.path / EVENTS).read_text().splitlines()]
    assert events[-1]["event"] == "no report"
    close_late(job, True, None)
    assert (job.run.path / EVENTS).read_text().count('"no report"') == 1, "tried once"


def test_a_disk_that_fills_up_leaves_no_half_page(job, monkeypatch):
    write = Inside.write

    def full(self: Inside, file: str, content: bytes, durable: bool = True) -> None:
        if file.endswith((".html", ".jpg")):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, file, content, durable)

    monkeypatch.setattr(Inside, "write", full)
    close_books(job)
    assert job.run.manifest.no_report == "No space left on device"
    assert RunDirectory.open(job.run.path).manifest.state == "done"
    assert [path.name for path in (job.run.path / RESULT).iterdir()] == []


def test_a_page_waits_until_it_is_known_whether_memory_came_back(job):
    row = AttemptRow(rung=0, device="a card", outcome="done")
    job.run.manifest.nodes["begin"].attempts = [row]
    close_books(job)
    page = job.run.path / RESULT / "report.html"
    assert not page.exists()
    row.vram = {"verdict": "released", "peak": 5 << 30}
    close_late(job, True, None)
    assert b"5.00 GiB" in page.read_bytes()


def test_a_page_is_made_for_a_run_without_one(tmp_path):
    run = page_run(tmp_path / "run")
    page = pages.page_of(run.path)
    assert page == run.path / RESULT / "report.html"
    made = page.stat().st_mtime_ns
    assert pages.page_of(run.path) == page
    assert page.stat().st_mtime_ns == made, "it is there"


def test_no_page_is_made_where_another_process_works(tmp_path):
    run = page_run(tmp_path / "run")
    with run_lock(run.path), pytest.raises(RunLockedError):
        pages.page_of(run.path)
    with pytest.raises(RunRecordError, match="does not exist"):
        pages.page_of(tmp_path / "none")


def test_a_page_that_cannot_be_written_is_an_output_error(tmp_path, monkeypatch):
    run = page_run(tmp_path / "run")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(run_page, "write_report", refuse)
    with pytest.raises(OutputError, match="Read-only file system"):
        pages.page_of(run.path)


def test_page_and_thumbnail_are_the_run_s_own_files(tmp_path):
    run = page_run(tmp_path / "run")
    pages.page_of(run.path)
    ours = all_files(run)
    assert {"result/report.html", "result/thumbnail.jpg"} <= set(ours)
    assert foreign(run) == []
