"""A shard that travels: its inputs there, its directory back, named as the user knows it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from orchestrator.api import ray_stage_in
from orchestrator.api.request import Request
from orchestrator.commands import shards
from orchestrator.commands.batch_directory import Batch
from orchestrator.commands.carry_out import BatchRequest
from orchestrator.commands.subject import Subject
from orchestrator.errors import OutputError
from orchestrator.planning.options import Options

SHARD = shards.Shard(1, 2)


@pytest.fixture
def layout(tmp_path):
    """Three pictures, and a mesh with a material beside it."""
    files = tmp_path / "my files"
    files.mkdir()
    for name in ("a", "b", "c"):
        (files / f"{name}.png").write_bytes(name.encode())
    (files / "d.obj").write_text("mtllib d.mtl\nv 0 0 0\n")
    (files / "d.mtl").write_text("newmtl m\n")
    jobs = {name: Subject({"input_image": files / f"{name}.png"}) for name in ("a", "b", "c")}
    jobs["d"] = Subject({"input_mesh": files / "d.obj"})
    config = tmp_path / "my.yaml"
    config.write_text("seed: 1\n")
    out = tmp_path / "out é"
    out.mkdir()
    terms = {"shards": 2, "source": "x", "glob": "", "recursive": False, "profile": "sketch"}
    return shards.Layout(Batch(out, jobs, Options(config_file=config)), terms)


@pytest.fixture
def request_of(layout):
    folder = BatchRequest(Path("x"), output=layout.path, shard=str(SHARD))
    return Request("batch", layout.whole.options, folder=folder)


def travelled(layout, request, work):
    """Pack, work on what arrived by `work(folder of the shard, its jobs)`, and unpack."""
    package = ray_stage_in.pack(layout, SHARD, request)
    document = shards.document(layout)
    with ray_stage_in.on_node(package, document, request, SHARD) as (there, packed):
        here = shards.load(there.folder.output)
        part = here.part(SHARD)
        part.path.mkdir(exist_ok=True)
        work(part.path, part.jobs, there)
        back = packed()
    assert not there.folder.output.exists(), "nothing stays on the node"
    ray_stage_in.unpack(back, layout, SHARD)


def test_inputs_go_and_a_directory_comes_with_the_users_names(layout, request_of):
    def work(folder, jobs, there):
        assert list(jobs) == ["b", "d"]
        assert jobs["b"].source.read_bytes() == b"b"
        assert (jobs["d"].source.parent / "d.mtl").read_text() == "newmtl m\n"
        assert there.options.config_file.read_text() == "seed: 1\n"
        run = folder / "b"
        (run / "result").mkdir(parents=True)
        told = {"source": str(jobs["b"].source), "log": str(folder / "logs" / "x.log")}
        (run / "run.json").write_text(json.dumps(told))
        (run / "result" / "mesh.glb").write_bytes(str(folder).encode())
        (folder / ".lock").touch()

    travelled(layout, request_of, work)
    arrived = layout.path / SHARD.folder
    record = json.loads((arrived / "b" / "run.json").read_text())
    assert record["source"] == str(layout.whole.jobs["b"].source)
    assert record["log"] == str(layout.path.resolve() / SHARD.folder / "logs" / "x.log")
    mesh = (arrived / "b" / "result" / "mesh.glb").read_bytes()
    assert b"private" in mesh, "results are as they were made"
    assert not (arrived / ".lock").exists()
    assert [path.name for path in layout.path.iterdir()] == [SHARD.folder]


def test_what_is_there_of_a_shard_travels_too(layout, request_of):
    before = layout.path / SHARD.folder / "b" / "source"
    before.mkdir(parents=True)
    (before / "x.npy").write_bytes(b"1")

    def work(folder, jobs, there):
        assert (folder / "b" / "source" / "x.npy").read_bytes() == b"1"
        (folder / "b" / "source" / "y.npy").write_bytes(b"2")

    travelled(layout, request_of, work)
    assert sorted(path.name for path in before.iterdir()) == ["x.npy", "y.npy"]


def test_a_picture_that_is_gone_fails_alone(layout, request_of):
    layout.whole.jobs["b"].source.unlink()
    seen = []
    travelled(layout, request_of, lambda _, jobs, __: seen.append(jobs["b"].source.exists()))
    assert seen == [False]


@pytest.mark.parametrize("name", ["../evil", "/evil", "shard-1-of-2/../../evil", "shard-0-of-2/x"])
def test_files_outside_of_the_shard_are_refused(name, layout, tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(OutputError, match="foreign files"):
        ray_stage_in.unpack(stream.getvalue(), layout, SHARD)
    assert list(layout.path.iterdir()) == []


def test_what_a_dead_driver_left_is_swept(layout):
    (layout.path / ".shard-1-of-2.arriving" / "x").mkdir(parents=True)
    ray_stage_in.sweep(layout)
    assert list(layout.path.iterdir()) == []
