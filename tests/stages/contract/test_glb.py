"""A .glb file that is damaged is told in our words, and one that is only padded is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devtools.given_meshes import box_document, box_glb, glb
from stages.contract import ArtifactSpec, BadInput, Mesh
from stages.contract.glb import glb_parts
from stages.contract.user_files import read_any
from stages.export.read import read_model

MESH = ArtifactSpec("mesh", "mesh", "a mesh")
Change = Callable[[dict[str, Any]], None]


def read(content: bytes, folder: Path) -> Mesh:
    path = folder / "given.glb"
    path.write_bytes(content)
    found = read_any(MESH, path)
    assert isinstance(found, Mesh)
    return found


@pytest.mark.parametrize("count", [1, 4, 100])
def test_padding_behind_the_end_is_no_part_of_the_file(count: int, tmp_path: Path) -> None:
    whole, padded = box_glb(), box_glb() + b"x" * count
    assert glb_parts(padded) == glb_parts(whole)
    np.testing.assert_array_equal(read(padded, tmp_path).faces, read(whole, tmp_path).faces)
    assert len(read_model(tmp_path / "given.glb").faces) == 12


def changed(change: Change) -> bytes:
    document, blob = box_document()
    change(document)
    return glb(document, blob)


def shorten(document: dict[str, Any]) -> None:
    document["bufferViews"][0]["byteLength"] -= 1


def reach_beyond(document: dict[str, Any]) -> None:
    document["bufferViews"][2]["byteLength"] = 1 << 20


def leave_out_corners(document: dict[str, Any]) -> None:
    for number in (0, 1):
        document["accessors"][number]["count"] = 10


def name_no_buffer(document: dict[str, Any]) -> None:
    del document["buffers"]


def name_no_numbers(document: dict[str, Any]) -> None:
    document["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = 7


DAMAGED = {
    "empty": (b"", "it is empty"),
    "a text": (b"hello", "it is no GLB file"),
    "its first bytes": (box_glb()[:10], "it ends in the middle"),
    "its first half": (box_glb()[: len(box_glb()) // 2], "it ends in the middle"),
    "a chunk too long": (box_glb()[:12] + b"\xff" + box_glb()[13:], "a chunk"),
    "no document": (glb({})[:16] + b"TEXT" + glb({})[20:], "it holds no document"),
    "no JSON": (box_glb().replace(b'{"asset"', b'["asset"', 1), "its JSON cannot be read"),
    "a view too short": (changed(shorten), "its accessor 0 names 24 elements"),
    "a view beyond the end": (changed(reach_beyond), "its buffer view 2 lies beyond the end"),
    "too few vertices": (changed(leave_out_corners), "a face names a vertex that is not there"),
    "no buffer": (changed(name_no_buffer), "is not laid out as glTF's are"),
    "no such numbers": (changed(name_no_numbers), "does not fit what it holds"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_told_by_its_name_with_what_is_wrong_and_what_to_do(
    case: str, tmp_path: Path
) -> None:
    content, what = DAMAGED[case]
    with pytest.raises(BadInput) as caught:
        read(content, tmp_path)
    assert f"{tmp_path / 'given.glb'} is no usable mesh: " in caught.value.message
    assert what in caught.value.message
    assert "copy it again" in caught.value.hint
