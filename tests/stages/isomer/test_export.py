"""GLB and OBJ files, read back by trimesh and by hand."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contract import ArtifactSpec, Mesh
from stages.contract.srgb import linear_to_srgb, srgb_to_linear
from stages.contract.user_files import read_any
from stages.geometry.render import vertex_normals
from stages.isomer.export import glb, obj

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "srgb_to_linear.npz"


@pytest.fixture
def mesh() -> Mesh:
    """A cone whose tip points to +z, with colours from black to bright."""
    angle = np.arange(8) * np.pi / 4
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    vertices = np.concatenate([ring, [(0, 0, 2.0), (0, 0, 0)]]).astype(np.float32)
    here, there = np.arange(8), (np.arange(8) + 1) % 8
    side = np.stack([here, there, np.full(8, 8)], axis=1)
    base = np.stack([there, here, np.full(8, 9)], axis=1)
    colors = np.arange(30, dtype=np.uint8).reshape(10, 3) * 8
    return Mesh(vertices, np.concatenate([side, base]).astype(np.int32), colors)


def read_glb(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON chunk and the arrays of the only primitive, checked against the container format."""
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    text_length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert text_length % 4 == 0
    document = json.loads(data[20 : 20 + text_length])
    blob_length, kind = struct.unpack_from("<I4s", data, 20 + text_length)
    assert kind == b"BIN\0"
    blob = data[28 + text_length :]
    assert len(blob) == blob_length == document["buffers"][0]["byteLength"]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
    dtype = {5126: "<f4", 5125: "<u4"}
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        count = accessor["count"] * width[accessor["type"]]
        values = np.frombuffer(blob, dtype[accessor["componentType"]], count, view["byteOffset"])
        assert values.nbytes == view["byteLength"]
        arrays.append(values.reshape(accessor["count"], -1))
    primitive = document["meshes"][0]["primitives"][0]
    named = {name: arrays[index] for name, index in primitive["attributes"].items()}
    return document, {**named, "indices": arrays[primitive["indices"]].reshape(-1, 3)}


def test_srgb_to_linear_equals_the_references_and_its_inverse_undoes_it() -> None:
    golden = np.load(GOLDEN)
    np.testing.assert_allclose(srgb_to_linear(golden["srgb"]), golden["linear"], atol=1e-6)
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)


def test_a_glb_holds_positions_normals_faces_and_linear_colours(mesh: Mesh) -> None:
    normals = vertex_normals(mesh.vertices, mesh.faces)
    document, arrays = read_glb(glb(mesh, normals))
    np.testing.assert_array_equal(arrays["POSITION"], mesh.vertices)
    np.testing.assert_array_equal(arrays["NORMAL"], normals)
    np.testing.assert_array_equal(arrays["indices"], mesh.faces)
    position = document["accessors"][0]
    np.testing.assert_array_equal(position["min"], mesh.vertices.min(axis=0))
    np.testing.assert_array_equal(position["max"], mesh.vertices.max(axis=0))
    assert document["accessors"][2]["componentType"] == 5126
    assert arrays["COLOR_0"].shape == (len(arrays["POSITION"]), 3)


def test_no_srgb_value_is_lost_in_a_glb() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    positions = np.random.default_rng(0).random((256, 3)).astype(np.float32)
    mesh = Mesh(positions, np.array([[0, 1, 2]], np.int32), ramp)
    _, arrays = read_glb(glb(mesh, positions))
    back = np.rint(linear_to_srgb(arrays["COLOR_0"]) * 255.0)
    np.testing.assert_array_equal(back, ramp)


def test_no_material_covers_the_colours(mesh: Mesh) -> None:
    document, _ = read_glb(glb(mesh, mesh.vertices))
    assert "materials" not in document
    assert "material" not in document["meshes"][0]["primitives"][0]


@pytest.mark.parametrize(("axes", "tip"), [("gltf", 2.0), ("reference", -2.0)])
def test_the_front_faces_plus_z_or_as_in_the_reference_minus_z(
    mesh: Mesh, axes: Any, tip: float
) -> None:
    trimesh = pytest.importorskip("trimesh")
    normals = vertex_normals(mesh.vertices, mesh.faces)
    for kind, data in (("glb", glb(mesh, normals, axes)), ("obj", obj(mesh, normals, axes))):
        loaded = trimesh.load_mesh(io.BytesIO(data), file_type=kind, process=False)
        z = loaded.vertices[:, 2]
        assert z[np.argmax(np.abs(z))] == tip
        assert loaded.volume > 0  # a turn, not a reflection: faces still look outwards


def test_trimesh_reads_colours_from_both_files(mesh: Mesh) -> None:
    trimesh = pytest.importorskip("trimesh")
    normals = vertex_normals(mesh.vertices, mesh.faces)
    loaded = trimesh.load_mesh(io.BytesIO(obj(mesh, normals)), file_type="obj", process=False)
    np.testing.assert_array_equal(loaded.visual.vertex_colors[:, :3], mesh.colors)
    scene = trimesh.load_scene(io.BytesIO(glb(mesh, normals)), file_type="glb", process=False)
    (loaded,) = scene.geometry.values()
    assert loaded.visual.kind == "vertex"
    linear = srgb_to_linear(mesh.colors / 255.0) * 255.0
    np.testing.assert_allclose(loaded.visual.vertex_colors[:, :3], linear, atol=1)


def test_trimesh_shows_the_colours_as_the_file_is_loaded_without_options(
    mesh: Mesh, tmp_path: Path
) -> None:
    trimesh = pytest.importorskip("trimesh")
    file = tmp_path / "mesh.glb"
    file.write_bytes(glb(mesh, vertex_normals(mesh.vertices, mesh.faces)))
    loaded = trimesh.load(file, force="mesh", process=False)
    shown = loaded.visual.vertex_colors[:, :3]
    assert len(np.unique(shown, axis=0)) > 5, "not one colour for all"


def test_a_glb_that_is_given_as_an_input_has_the_colours_it_was_written_with(
    mesh: Mesh, tmp_path: Path
) -> None:
    file = tmp_path / "mesh.glb"
    file.write_bytes(glb(mesh, vertex_normals(mesh.vertices, mesh.faces)))
    again = read_any(ArtifactSpec("mesh", "mesh", "a mesh"), file)
    bright = mesh.colors >= 64  # 8 linear bits leave few dark tones
    np.testing.assert_allclose(again.colors[bright], mesh.colors[bright], atol=3)


def test_an_obj_has_a_line_for_every_vertex_normal_and_face(mesh: Mesh) -> None:
    lines = obj(mesh, vertex_normals(mesh.vertices, mesh.faces)).decode().splitlines()
    vertices = [line for line in lines if line.startswith("v ")]
    faces = [line for line in lines if line.startswith("f ")]
    assert len(vertices) == sum(line.startswith("vn ") for line in lines) == 10
    assert vertices[1].split()[1:] == [
        "0.707107", "0.707107", "0.000000", "0.0941", "0.1255", "0.1569",
    ]  # fmt: skip
    assert faces[0] == "f 1//1 2//2 9//9"
    assert len(faces) == len(mesh.faces)
