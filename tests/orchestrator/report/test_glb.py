"""The mesh file of a page: read with its sizes checked, seen whole by its camera."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image

from devtools.page_runs import ball_glb
from orchestrator.report.glb import read_glb


def packed(document: object, binary: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
    return (
        head
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


@pytest.mark.parametrize("colours", ["vertices", "texture"])
def test_the_camera_sees_the_whole_mesh_from_its_front(colours):
    mesh = read_glb(ball_glb(colours))
    assert mesh.faces == 1280
    scene = trimesh.load_scene(io.BytesIO(mesh.for_viewer()), file_type="glb")
    document = read_glb(mesh.for_viewer()).document
    (camera,) = document["cameras"]
    (node,) = (node for node in document["nodes"] if "camera" in node)
    to_world = np.array(node["matrix"]).reshape(4, 4).T
    assert np.allclose(to_world[:3, :3] @ to_world[:3, :3].T, np.eye(3))
    assert to_world[2, 3] > 0, "the front is +z"
    points = np.concatenate([part.vertices for part in scene.geometry.values()])
    seen = np.linalg.inv(to_world) @ np.c_[points, np.ones(len(points))].T
    assert (seen[2] < -camera["perspective"]["znear"]).all()
    upright = np.abs(seen[1] / seen[2]) / np.tan(camera["perspective"]["yfov"] / 2)
    assert 0.4 < upright.max() < 1.0, "0.58: the ball lies in the sphere around its box"


def test_the_picture_around_a_mesh_is_found():
    assert read_glb(ball_glb()).texture() is None
    kind, content = read_glb(ball_glb("texture")).texture()
    assert kind == "image/png"
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.getpixel((50, 30)) == (220, 20, 20)


BROKEN = {
    "nothing": b"",
    "another file": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "cut off": ball_glb()[:-10],
    "no mesh": packed({"asset": {"version": "2.0"}}),
    "a list": packed([1, 2]),
    "no JSON": struct.pack("<4sIII4s", b"glTF", 2, 24, 4, b"JSON") + b"[1,}",
    "a length beyond the end": struct.pack("<4sIII4s", b"glTF", 2, 24, 1 << 31, b"JSON") + bytes(8),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_mesh_file_is_refused(case):
    with pytest.raises(ValueError, match=r"\S"):
        read_glb(BROKEN[case])


PART = {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}
STRANGE = {
    "no accessors": {"meshes": [PART]},
    "no bounds": {"meshes": [PART], "accessors": [{"count": 3}] * 2, "nodes": [], "scenes": [{}]},
    "words for numbers": {"meshes": [PART], "accessors": "many", "nodes": 3, "scenes": None},
    "primitives of another kind": {"meshes": [{"primitives": [5]}], "nodes": [], "scenes": []},
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_document_is_a_value_error(case):
    with pytest.raises(ValueError, match="not a usable glTF document"):
        read_glb(packed(STRANGE[case])).for_viewer()


def test_a_texture_outside_of_the_file_is_none():
    images = {"images": [{"mimeType": "image/png", "bufferView": 0}], "meshes": [PART]}
    for view in ({"byteOffset": 0, "byteLength": 99}, {"byteOffset": -4, "byteLength": 2}):
        assert read_glb(packed({**images, "bufferViews": [view]}, bytes(8))).texture() is None
