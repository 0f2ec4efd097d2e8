"""What `--format` leaves of a run that is done, and what goes when the result is made anew."""

from __future__ import annotations

import numpy as np
import pytest

from devtools.page_runs import page_run
from devtools.painted import painted_ball, plain, written
from orchestrator.commands import export as command
from orchestrator.commands.batch import Outcome
from orchestrator.commands.export import Request, complete, export
from orchestrator.errors import InputFileError, OutputError, RunFailedError
from orchestrator.record import belongings
from orchestrator.record.manifest import FileRecord
from orchestrator.record.preview_sheet import PreviewSheet
from orchestrator.record.result_folder import write_result
from orchestrator.record.run_directory import RunDirectory
from stages.export.model import Model


@pytest.fixture
def run(tmp_path):
    made = page_run(tmp_path / "ball")
    file = written(plain(painted_ball(2)), "glb", tmp_path)
    (made.path / "result" / "mesh.glb").write_bytes(file.read_bytes())
    return made


@pytest.fixture
def flat(run, tmp_path):
    """A run whose mesh is a sheet."""
    points = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0)], float)
    sheet = Model(points, np.array([(0, 1, 2)], np.int32))
    file = written(sheet, "glb", tmp_path)
    (run.path / "result" / "mesh.glb").write_bytes(file.read_bytes())
    return run


def results(run):
    return {entry.name for entry in run.inside.entries("result")}


def test_a_run_that_is_done_gets_what_was_asked_for(run):
    run.manifest.formats = ["stl", "glb"]
    before = results(run)
    complete(run)
    assert results(run) - before == {"mesh.stl"}
    kept = RunDirectory.open(run.path).manifest
    assert (kept.exports, kept.no_export, kept.state) == (["mesh.stl"], "", "done")
    assert "result/mesh.stl" in belongings.all_files(run)


def test_a_run_that_is_not_done_gets_nothing(run):
    run.manifest.formats, run.manifest.state = ["stl"], "failed"
    complete(run)
    assert "mesh.stl" not in results(run)


def test_what_cannot_be_closed_stays_a_run_that_is_done_and_says_why(flat):
    flat.manifest.formats = ["ply", "stl"]
    before = results(flat)
    complete(flat)
    kept = RunDirectory.open(flat.path).manifest
    assert kept.state == "done"
    assert "cannot be made watertight" in kept.no_export
    assert "\n" not in kept.no_export
    assert results(flat) == before
    outcome = Outcome("ball", flat.path, flat, "not exported", kept.no_export)
    assert not outcome.good
    with pytest.raises(RunFailedError, match="watertight"):
        export(flat.path, None, Request(["stl"]))


def test_a_result_that_is_made_anew_loses_exports_but_no_other_file(run):
    export(run.path, None, Request(["stl"]))
    mesh = (run.path / "result" / "mesh.glb").read_bytes()
    run = RunDirectory.open(run.path)
    mine = run.path / "result" / "mesh.3mf"
    mine.write_text("mine")
    write_result(run, PreviewSheet(run))
    assert "mesh.stl" not in results(run)
    assert run.manifest.exports == []
    assert run.manifest.former_exports == ["mesh.stl"]
    assert mine.read_text() == "mine"
    assert "result/mesh.3mf" in belongings.foreign(run)
    (run.path / "result" / "mesh.glb").write_bytes(mesh)
    with pytest.raises(OutputError, match="is there already"):
        export(run.path, None, Request(["3mf"]))


def test_a_link_in_the_place_of_the_mesh_is_not_followed(run, tmp_path):
    mesh = run.path / "result" / "mesh.glb"
    mesh.rename(tmp_path / "real.glb")
    mesh.symlink_to(tmp_path / "real.glb")
    with pytest.raises((OutputError, InputFileError)):
        export(run.path, None, Request(["stl"]))
    assert "mesh.stl" not in results(run)


def test_where_one_file_cannot_be_placed_none_is(run, tmp_path, monkeypatch):
    real = command.Inside.copy

    def full(self, source, file, durable=False):
        if file.endswith(".3mf"):
            raise OSError(28, "No space left on device")
        real(self, source, file, durable)

    monkeypatch.setattr(command.Inside, "copy", full)
    with pytest.raises(OutputError, match="No space left"):
        export(run.path, None, Request(["stl", "3mf"]))
    assert not {"mesh.stl", "mesh.3mf"} & results(run)
    with pytest.raises(OutputError, match="No space left"):
        export(run.path, tmp_path / "new" / "deep", Request(["stl", "3mf"]))
    assert not (tmp_path / "new").exists()


def test_formats_that_a_record_made_up_are_no_crash(run):
    run.manifest.formats = ["stl; rm -rf /", "\x1b[31m"]
    complete(run)
    assert "unknown format" in run.manifest.no_export


def test_exports_stay_with_the_mesh_that_they_were_made_of(run):
    content = (run.path / "result" / "mesh.glb").read_bytes()
    run.inside.write("isomer/mesh.glb", content)
    record = FileRecord(file="mesh.glb", size=len(content))
    run.manifest.nodes["isomer"].artifacts["glb"] = [record]
    run.save()
    export(run.path, None, Request(["stl"]))
    run = RunDirectory.open(run.path)
    write_result(run, PreviewSheet(run))
    assert "mesh.stl" in results(run)
    assert run.manifest.exports == ["mesh.stl"]
    run.inside.write("isomer/mesh.glb", content + b"\0\0\0\0")
    write_result(run, PreviewSheet(run))
    assert "mesh.stl" not in results(run)
    assert run.manifest.former_exports == ["mesh.stl"]
