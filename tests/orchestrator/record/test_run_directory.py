"""The run directory takes only what a stage promised, and knows when it was damaged."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtools.fakes.parts import PICTURE, finish_node, make_run
from devtools.fakes.tools import cli_environment, leftovers
from orchestrator.errors import OutputError, RunLockedError, RunRecordError
from orchestrator.record.manifest import NodeRecord
from orchestrator.record.run_directory import MANIFEST, RunDirectory
from orchestrator.system.locks import BATCH_FILE, LOCK
from stages.contract import ArtifactSpec, BadInput, ContractError, Mesh, codec
from stages.process.protocol import Part, ProtocolError

SQUARE = ArtifactSpec("square", "image", "", ("S", "S", 3), "uint8")
MESH = ArtifactSpec("mesh", "mesh", "")
BLOB = ArtifactSpec("blob", "file", "", suffix=".glb")
TEXT = ArtifactSpec("words", "text", "")
IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
TRIANGLE = Mesh(
    np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.zeros((3, 3), np.uint8)
)

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


def pickled_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def hand_over(run: RunDirectory, how: str, spec: ArtifactSpec, contents: dict[str, bytes]):
    """As a child does: small files behind the message, large ones as temporary files."""
    parts, behind = [], b""
    for file, content in contents.items():
        if how == "inline":
            parts.append(Part(file, len(content), start=len(behind)))
            behind += content
        else:
            temp = f".{file}.7.part"
            (run.node_folder("node") / temp).write_bytes(content)
            parts.append(Part(file, len(content), temp=temp))
    return run.accept("node", spec, parts, behind)


def accepted_nothing(run: RunDirectory) -> bool:
    return not [path for path in run.node_folder("node").iterdir() if path.name[0] != "."]


both_ways = pytest.mark.parametrize("how", ["inline", "temps"])


@both_ways
@pytest.mark.parametrize(
    ("spec", "value"),
    [(SQUARE, IMAGE), (MESH, TRIANGLE), (MESH, replace(TRIANGLE, colors=None)), (BLOB, b"glTF"),
     (TEXT, "größe\r\n")],
)  # fmt: skip
def test_what_a_stage_promised_lands_in_its_place_and_reads_back(run, how, spec, value):
    contents = {name: codec.payload_bytes(payload) for name, payload in codec.payloads(spec, value)}
    records = hand_over(run, how, spec, contents)
    assert {record.file: record.size for record in records} == {
        name: len(content) for name, content in contents.items()
    }
    found = codec.read(spec, [run.path / "node" / record.file for record in records])
    np.testing.assert_equal(
        vars(found) if spec is MESH else found, vars(value) if spec is MESH else value
    )
    assert leftovers(run.path) == []


def test_a_preview_is_written_but_is_no_part_of_the_artifact(run):
    records = hand_over(run, "inline", SQUARE, {"square.npy": npy(IMAGE)})
    run.manifest.nodes["node"] = NodeRecord(state="done", artifacts={"square": records})
    run.write_previews("node", [SQUARE])
    assert (run.path / "node" / "square.png").read_bytes() == codec.preview_png(IMAGE)
    assert [record.file for record in records] == ["square.npy"]


@both_ways
@pytest.mark.parametrize("file", ["other.npy", "square.txt", "run.json"])
def test_a_file_that_was_not_promised_is_refused(run, how, file):
    with pytest.raises(ProtocolError, match="may not write"):
        hand_over(run, how, SQUARE, {"square.npy": npy(IMAGE), file: b"{}"})


@pytest.mark.parametrize(
    "file", ["../square.npy", "/tmp/square.npy", "a/square.npy", "..\\square.npy", "", ".", ".."]
)
def test_a_file_elsewhere_is_refused(run, file):
    with pytest.raises(ProtocolError, match="may not write"):
        run.accept("node", SQUARE, [Part(file, 3, 0)], b"abc")
    assert sorted(os.listdir(run.path.parent)) == ["run"]


@pytest.mark.parametrize(
    "temp", ["../.away", "/etc/.hosts", "a/.b", "", ".", "..", "square.npy", "\0", ".missing"]
)
def test_a_temporary_file_elsewhere_is_refused(run, temp):
    (run.path / ".away").write_bytes(npy(IMAGE))
    with pytest.raises(ProtocolError):
        run.accept("node", SQUARE, [Part("square.npy", len(npy(IMAGE)), temp=temp)], b"")
    assert (run.path / ".away").exists()
    assert accepted_nothing(run)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
def test_a_link_is_refused(run, tmp_path):
    secret = tmp_path / "secret.npy"
    secret.write_bytes(npy(IMAGE))
    (run.node_folder("node") / ".link.part").symlink_to(secret)
    with pytest.raises(ProtocolError, match="missing or has another size"):
        run.accept("node", SQUARE, [Part("square.npy", len(npy(IMAGE)), temp=".link.part")], b"")
    assert accepted_nothing(run)


@pytest.mark.parametrize("size", [0, 151, 1000])
def test_a_size_that_is_not_so_is_refused(run, size):
    content = npy(IMAGE)
    (run.node_folder("node") / ".square.part").write_bytes(content)
    for part in (Part("square.npy", size, start=0), Part("square.npy", size, temp=".square.part")):
        with pytest.raises((ProtocolError, ContractError), match=r"size|header|not a \.npy"):
            run.accept("node", SQUARE, [part], content)
    assert accepted_nothing(run)


@pytest.mark.parametrize(("start", "size"), [(1, 3), (3, 1), (1 << 62, 3), (0, -1), (0, 1 << 62)])
def test_content_that_did_not_come_is_refused(run, start, size):
    with pytest.raises(ProtocolError, match="its content is missing"):
        run.accept("node", TEXT, [Part("words.txt", size, start=start)], b"abc")


def test_a_file_is_taken_once_however_often_it_is_named(run):
    """Else a small message could have the parent write for hours."""
    with pytest.raises(ProtocolError, match="may not write"):
        run.accept("node", TEXT, [Part("words.txt", 3, start=0)] * 2, b"abc")


@pytest.mark.parametrize(
    ("spec", "file"), [(SQUARE, "square.npy"), (MESH, "mesh.faces.npy"), (TEXT, "words.txt")]
)
def test_what_was_promised_and_did_not_come_is_named(run, spec, file):
    with pytest.raises(ProtocolError, match=f"did not hand over {file}"):
        run.accept("node", spec, [], b"")


def test_half_a_mesh_is_refused(run):
    with pytest.raises(ProtocolError, match="did not hand over mesh"):
        hand_over(run, "inline", MESH, {"mesh.vertices.npy": npy(TRIANGLE.vertices)})


@both_ways
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npy(IMAGE.astype(np.int16)), "expected dtype uint8"),
        (npy(IMAGE[:1]), "expected shape"),
        (npy(IMAGE[..., :2]), "expected shape"),
        (pickled_npy(), "object arrays"),
        (pickle.dumps(IMAGE), "not a .npy file"),
        (b"", "not a .npy file"),
        (b"\x93NUMPY\x01\x00", "not a .npy file"),
        (b"\x93NUMPY\x01\x00\x05\x00  (\n\n", "not a .npy file"),
        (npy(IMAGE)[:-1], "its header promises 140"),
        (npy(IMAGE) + b"more", "its header promises 140"),
        (npy(IMAGE)[:128], "its header promises 140"),
    ],
)
def test_an_array_that_is_not_what_was_promised_is_refused(run, how, content, says):
    with pytest.raises(ContractError, match=says):
        hand_over(run, how, SQUARE, {"square.npy": content})
    assert accepted_nothing(run)


@pytest.mark.parametrize(
    ("part", "content", "says"),
    [
        ("vertices", npy(np.zeros((3, 2), np.float32)), "expected shape"),
        ("faces", npy(np.zeros((3, 3), np.int64)), "expected dtype int32"),
        ("colors", npy(np.zeros((3, 3), np.float32)), "expected dtype uint8"),
        ("vertices", pickled_npy(), "object arrays"),
        ("faces", npy(TRIANGLE.faces)[:-1], "its header promises"),
    ],
)
def test_each_part_of_a_mesh_is_held_to_its_promise(run, part, content, says):
    contents = {f"mesh.{name}.npy": npy(getattr(TRIANGLE, name)) for name in codec.MESH_PARTS}
    with pytest.raises(ContractError, match=says):
        hand_over(run, "inline", MESH, {**contents, f"mesh.{part}.npy": content})


@given(header=st.text(alphabet="{}()[]'\":,descrfotnapshTue<>|0123456789 \n", max_size=40))
def test_no_header_can_do_more_than_be_refused(header):
    text = header.encode()
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with pytest.raises(ContractError):
        codec.check_header(SQUARE, "square.npy", io.BytesIO(content), len(content))


def claims(header: int, shape: tuple[int, ...], version: int = 1) -> bytes:
    """A .npy file of next to nothing that announces `header` bytes of header, or a big array."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    length = (header or len(text)).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


@pytest.mark.parametrize(
    "content",
    [
        claims(0, (1 << 16, 1 << 16, 1)),
        claims(0, (-2, -2, 3)),
        claims((1 << 32) - 1, (2, 2, 3), version=2),
        claims(60_000, (2, 2, 3)),
        b"\x93NUMPY\x02",
    ],
    ids=["data", "negative", "header", "longer than the file", "cut"],
)
def test_a_header_that_claims_more_than_there_is_costs_no_memory(run, content, tmp_path):
    file = tmp_path / "square.npy"
    file.write_bytes(content)
    if content[8:12] == b"\xff" * 4:  # the whole file would be read before numpy looks
        os.truncate(file, 1 << 32)
    tracemalloc.start()
    try:
        with pytest.raises(ContractError):
            hand_over(run, "inline", SQUARE, {"square.npy": content})
        with file.open("rb") as stream, pytest.raises(ContractError):
            codec.check_header(SQUARE, "square.npy", stream, file.stat().st_size)
        with pytest.raises(ContractError):
            codec.read(SQUARE, [file])
        with pytest.raises(BadInput):
            codec.read(SQUARE, [file.rename(tmp_path / "given.npy")])
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_refused_hand_over_leaves_what_was_there_before(run):
    hand_over(run, "inline", SQUARE, {"square.npy": npy(IMAGE)})
    with pytest.raises(ContractError):
        hand_over(run, "inline", SQUARE, {"square.npy": npy(IMAGE[:1])})
    assert (run.path / "node" / "square.npy").read_bytes() == npy(IMAGE)


def test_a_durable_artifact_has_digests_and_is_intact(run):
    records = hand_over(run, "temps", SQUARE, {"square.npy": npy(IMAGE)})
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
