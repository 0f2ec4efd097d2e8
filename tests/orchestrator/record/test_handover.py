"""What a stage process hands over is taken only as the stage promised it."""

from __future__ import annotations

import io
import os
import pickle
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtools.fakes.parts import make_run
from devtools.fakes.tools import leftovers
from orchestrator.record.handover import accept_artifact
from orchestrator.record.run_directory import RunDirectory
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
            parts.append(Part(file=file, size=len(content), start=len(behind)))
            behind += content
        else:
            temp = f".{file}.7.part"
            (run.node_folder("node") / temp).write_bytes(content)
            parts.append(Part(file=file, size=len(content), temp=temp))
    return accept_artifact(run.inside, "node", spec, parts, behind)


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
        accept_artifact(run.inside, "node", SQUARE, [Part(file=file, size=3, start=0)], b"abc")
    assert sorted(os.listdir(run.path.parent)) == ["run"]


@pytest.mark.parametrize(
    "temp", ["../.away", "/etc/.hosts", "a/.b", "", ".", "..", "square.npy", "\0", ".missing"]
)
def test_a_temporary_file_elsewhere_is_refused(run, temp):
    (run.path / ".away").write_bytes(npy(IMAGE))
    with pytest.raises(ProtocolError):
        accept_artifact(
            run.inside,
            "node",
            SQUARE,
            [Part(file="square.npy", size=len(npy(IMAGE)), temp=temp)],
            b"",
        )
    assert (run.path / ".away").exists()
    assert accepted_nothing(run)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
def test_a_link_is_refused(run, tmp_path):
    secret = tmp_path / "secret.npy"
    secret.write_bytes(npy(IMAGE))
    (run.node_folder("node") / ".link.part").symlink_to(secret)
    with pytest.raises(ProtocolError, match="missing or has another size"):
        accept_artifact(
            run.inside,
            "node",
            SQUARE,
            [Part(file="square.npy", size=len(npy(IMAGE)), temp=".link.part")],
            b"",
        )
    assert accepted_nothing(run)


@pytest.mark.parametrize("size", [0, 151, 1000])
def test_a_size_that_is_not_so_is_refused(run, size):
    content = npy(IMAGE)
    (run.node_folder("node") / ".square.part").write_bytes(content)
    for part in (
        Part(file="square.npy", size=size, start=0),
        Part(file="square.npy", size=size, temp=".square.part"),
    ):
        with pytest.raises((ProtocolError, ContractError), match=r"size|header|not a \.npy"):
            accept_artifact(run.inside, "node", SQUARE, [part], content)
    assert accepted_nothing(run)


@pytest.mark.parametrize(("start", "size"), [(1, 3), (3, 1), (1 << 62, 3), (0, -1), (0, 1 << 62)])
def test_content_that_did_not_come_is_refused(run, start, size):
    with pytest.raises(ProtocolError, match="its content is missing"):
        accept_artifact(
            run.inside, "node", TEXT, [Part(file="words.txt", size=size, start=start)], b"abc"
        )


def test_a_file_is_taken_once_however_often_it_is_named(run):
    """Else a small message could have the parent write for hours."""
    with pytest.raises(ProtocolError, match="may not write"):
        accept_artifact(
            run.inside, "node", TEXT, [Part(file="words.txt", size=3, start=0)] * 2, b"abc"
        )


@pytest.mark.parametrize(
    ("spec", "file"), [(SQUARE, "square.npy"), (MESH, "mesh.faces.npy"), (TEXT, "words.txt")]
)
def test_what_was_promised_and_did_not_come_is_named(run, spec, file):
    with pytest.raises(ProtocolError, match=f"did not hand over {file}"):
        accept_artifact(run.inside, "node", spec, [], b"")


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
