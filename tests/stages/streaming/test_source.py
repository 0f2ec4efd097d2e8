"""Safetensors files as byte ranges, and reading them by threads."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.contract import StageError
from stages.streaming.reader import CHUNK, FileReader, Piece
from stages.streaming.source import open_tensors


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a": np.arange(12, dtype=np.float32).reshape(4, 3), "b": np.ones(5, "f2")}, path)
    return path


def rewrite(path: Path, change: Any) -> None:
    """Change the header of a file, and keep its data."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def test_ranges_are_where_the_tensors_are(weights: Path) -> None:
    a = open_tensors(weights)["a"]
    data = weights.read_bytes()[a.offset : a.offset + a.nbytes]
    assert np.array_equal(
        np.frombuffer(data, np.float32).reshape(a.shape), np.arange(12).reshape(4, 3)
    )


def test_rows_are_a_range_of_their_own(weights: Path) -> None:
    rows = open_tensors(weights)["a"].rows(1, 3)
    data = weights.read_bytes()[rows.offset : rows.offset + rows.nbytes]
    assert np.array_equal(
        np.frombuffer(data, np.float32).reshape(rows.shape), np.arange(12).reshape(4, 3)[1:3]
    )
    with pytest.raises(ValueError, match="rows"):
        rows.rows(1, 3)


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2)}, tmp_path / "x-00001.safetensors")
    save_file({"b": np.ones(3)}, tmp_path / "x-00002.safetensors")
    index = {"weight_map": {"a": "x-00001.safetensors", "b": "x-00002.safetensors"}}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
    assert {name: tensor.path.name for name, tensor in open_tensors(tmp_path).items()} == {
        "a": "x-00001.safetensors",
        "b": "x-00002.safetensors",
    }


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    save_file({"a": np.zeros(2)}, tmp_path / "secret.safetensors")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (folder / "x.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(StageError, match="inside"):
        open_tensors(folder)


def test_a_truncated_file_is_refused_by_name(weights: Path) -> None:
    with weights.open("r+b") as stream:
        stream.truncate(weights.stat().st_size - 1)
    with pytest.raises(StageError, match=r"model\.safetensors.*truncated") as raised:
        open_tensors(weights)
    assert raised.value.kind == "missing_weights"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["a"].update(dtype="F4"),
        lambda header: header["a"].update(shape=[4, 4]),
        lambda header: header["a"].update(shape=[-4, -3]),
        lambda header: header["a"].update(data_offsets=[8, 1]),
        lambda header: header["a"].update(data_offsets="ab"),
        lambda header: header.update(a=7),
        lambda header: header["b"].update(data_offsets=[10**6, 10**6 + 10]),
    ],
)
def test_a_header_that_does_not_hold_is_refused(weights: Path, change: Any) -> None:
    rewrite(weights, change)
    with pytest.raises(StageError, match=r"model\.safetensors"):
        open_tensors(weights)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x04" + b"\0" * 7 + b"\xff\xff{}"]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"model\.safetensors"):
        open_tensors(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot be read"):
        open_tensors(tmp_path / "none.safetensors")
    with pytest.raises(StageError, match="0 safetensors files"):
        open_tensors(tmp_path)


@pytest.fixture(params=["preadv", "seek"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ways to read: the second is what Windows has."""
    if request.param == "seek":
        monkeypatch.delattr(os, "preadv")
    before = threading.active_count()
    reader = FileReader(3)
    yield reader
    reader.close()
    assert threading.active_count() == before


def test_pieces_arrive_whole_and_in_place(reader: FileReader, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(CHUNK + 1000)
    path = tmp_path / "data"
    path.write_bytes(data)
    target = bytearray(len(data) + 7)
    pieces = [Piece(path, 10, CHUNK + 990, 17), Piece(path, 0, 10, 7)]
    reader.start(pieces, memoryview(target)).result()
    assert bytes(target[7:]) == data


def test_a_file_that_ends_early_is_told_with_its_name(reader: FileReader, tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(100))
    reading = reader.start([Piece(path, 50, 100, 0)], memoryview(bytearray(100)))
    with pytest.raises(StageError, match=r"short end at byte 100"):
        reading.result()


def test_a_file_that_vanished_is_told_with_its_name(reader: FileReader, tmp_path: Path) -> None:
    reading = reader.start([Piece(tmp_path / "gone", 0, 10, 0)], memoryview(bytearray(10)))
    with pytest.raises(StageError, match="gone cannot be read"):
        reading.result()
