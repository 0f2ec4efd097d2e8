"""The run directory is a record that is whole or says so, and has one owner at a time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from devtools.fakes.parts import PICTURE, finish_node, make_run
from devtools.fakes.tools import cli_environment, leftovers
from orchestrator.errors import OutputError, RunLockedError, RunRecordError
from orchestrator.record.handover import accept_artifact
from orchestrator.record.manifest import NodeRecord
from orchestrator.record.run_directory import MANIFEST, RunDirectory
from orchestrator.system.inside import Inside
from orchestrator.system.locks import BATCH_FILE, LOCK
from stages.contract import ArtifactSpec, codec
from stages.process.protocol import Part

SQUARE = ArtifactSpec("square", "image", "", ("S", "S", 3), "uint8")
IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)

HOLDER = """
import sys, time
from pathlib import Path
from orchestrator.record.run_directory import RunDirectory
with RunDirectory.open(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return make_run(tmp_path / "run")


def npy(array: np.ndarray) -> bytes:
    return codec.payload_bytes(array)


def hand_over(run: RunDirectory, spec: ArtifactSpec, file: str, content: bytes):
    parts = [Part(file=file, size=len(content), start=0)]
    return accept_artifact(run.inside, "node", spec, parts, content)


def test_a_preview_is_written_but_is_no_part_of_the_artifact(run):
    records = hand_over(run, SQUARE, "square.npy", npy(IMAGE))
    run.manifest.nodes["node"] = NodeRecord(state="done", artifacts={"square": records})
    run.write_previews("node", [SQUARE])
    assert (run.path / "node" / "square.png").read_bytes() == codec.preview_png(IMAGE)
    assert [record.file for record in records] == ["square.npy"]


def test_a_durable_artifact_has_digests_and_is_intact(run):
    records = hand_over(run, SQUARE, "square.npy", npy(IMAGE))
    done = run.make_durable("node", {"square": records})
    run.manifest.nodes["node"] = NodeRecord(artifacts=done)
    assert done["square"][0].digest.startswith("blake2b:")
    assert run.intact("node") == ""


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "words.txt is gone"),
        (lambda path: path.write_bytes(b"other"), "words.txt was changed"),
        (lambda path: path.write_bytes(b"longer than before"), "words.txt was changed"),
        (lambda path: path.write_bytes(b""), "words.txt was changed"),
        (lambda path: (path.unlink(), path.mkdir()), "words.txt is gone"),
    ],
)
def test_a_changed_or_missing_file_is_noticed(run, damage, says):
    finish_node(run, "node", {"words": b"right"})
    assert run.intact("node") == ""
    damage(run.path / "node" / "words.txt")
    assert run.intact("node") == says


def test_a_file_that_cannot_be_read_is_not_intact(run, monkeypatch):
    finish_node(run, "node", {"words": b"right"})

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("orchestrator.record.run_directory.digest_file", refuse)
    assert run.intact("node") == "words.txt cannot be read (Permission denied)"


def test_a_run_opens_as_it_was_saved(run):
    finish_node(run, "node", {"words": b"right"}, key="k", degraded="smaller")
    again = RunDirectory.open(run.path)
    assert again.manifest == run.manifest
    assert again.input_path.read_bytes() == PICTURE
    assert again.artifact_paths("node", "words") == [(run.path / "node" / "words.txt").resolve()]


def test_a_failure_that_names_a_file_in_no_encoding_leaves_a_readable_record(run):
    named = os.fsdecode(b"caf\xe9.png")
    run.manifest.error = f"cannot read {named}"
    run.manifest.settings = {"folder": [named]}
    run.save()
    manifest = RunDirectory.open(run.path).manifest
    assert manifest.error == "cannot read caf\\udce9.png"
    assert manifest.settings == {"folder": ["caf\\udce9.png"]}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"input": 5}', b"\0" * 4096]
)
def test_a_damaged_record_is_an_error_that_names_the_file(run, content):
    (run.path / MANIFEST).write_bytes(content)
    with pytest.raises(RunRecordError, match=r"run\.json cannot be read"):
        RunDirectory.open(run.path)


def test_a_half_written_record_is_an_error(run):
    finish_node(run, "node", {"words": b"right"})
    content = (run.path / MANIFEST).read_bytes()
    for cut in range(0, len(content) - 2, 37):
        (run.path / MANIFEST).write_bytes(content[:cut])
        with pytest.raises(RunRecordError):
            RunDirectory.open(run.path)


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_place_without_a_run_is_an_error(tmp_path, kind):
    path = tmp_path / "place"
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("")
    words = "does not exist" if kind == "missing" else "holds no run"
    with pytest.raises(RunRecordError, match=words):
        RunDirectory.open(path)


def test_a_run_cannot_be_created_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        make_run(tmp_path / "file" / "run")


def test_a_second_holder_is_turned_away_and_the_lock_file_goes(run):
    with run.locked():
        with pytest.raises(RunLockedError, match="another process is working in"):
            RunDirectory.open(run.path).locked().__enter__()
        assert (run.path / LOCK).exists(), "the one that was turned away must not remove it"
    assert not (run.path / LOCK).exists()
    with run.locked():
        pass


def test_the_lock_ends_with_an_error_in_the_work(run):
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    with run.locked():
        pass


def test_the_lock_of_a_batch_guards_its_runs(run):
    (run.path.parent / BATCH_FILE).write_text("{}")
    other = make_run(run.path.parent / "other")
    with run.locked(), pytest.raises(RunLockedError):
        other.locked().__enter__()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_the_lock_dies_with_the_process_that_holds_it(run):
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=cli_environment()) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunLockedError):
            run.locked().__enter__()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with run.locked():
        pass
    assert not (run.path / LOCK).exists()


def test_taking_the_lock_clears_away_what_a_killed_run_left(run):
    (run.node_folder("node") / ".square.npy.1.part").write_bytes(b"half")
    (run.path / ".run.json.2.part").write_bytes(b"half")
    finish_node(run, "node", {"words": b"right"})
    with run.locked():
        pass
    assert leftovers(run.path) == []
    assert run.intact("node") == ""


def test_events_that_cannot_be_written_end_nothing(run, monkeypatch):
    run.event("begin", seed=0)
    events = run.path / "events.jsonl"
    assert '"event": "begin", "seed": 0' in events.read_text()
    events.unlink()
    events.mkdir()
    run.event("end")


def test_a_record_that_rests_is_read_again_when_it_is_asked_for(run):
    before = run.manifest.model_dump()
    first = run.manifest
    run.rest()
    assert run.manifest is not first
    assert run.manifest.model_dump() == before
    assert run.manifest is run.manifest, "once"


def test_at_hand_a_record_that_rests_is_there_for_a_moment(run):
    run.rest()
    with run.at_hand() as manifest:
        assert run.manifest is manifest
        manifest.error = "told"
        run.save()
    assert run.manifest is not manifest
    assert run.manifest.error == "told"
    with run.at_hand() as manifest:
        assert run.manifest is manifest
    assert run.manifest is manifest, "it did not rest before"


def test_a_record_that_the_disk_does_not_have_is_not_let_go_of(run, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run.manifest.error = "told"
    with monkeypatch.context() as patch:
        patch.setattr(Inside, "write", full)
        with pytest.raises(OSError, match="No space"):
            run.save()
    run.rest()
    assert run.manifest.error == "told"
    run.manifest = run.manifest.model_copy(update={"error": "another"})
    run.rest()
    assert run.manifest.error == "another"
    run.save()
    run.rest()
    assert run.manifest.error == "another"


def test_a_record_that_has_gone_while_it_rested_is_told_in_words(run):
    run.rest()
    (run.path / MANIFEST).unlink()
    with pytest.raises(RunRecordError, match="holds no run"):
        _ = run.manifest
