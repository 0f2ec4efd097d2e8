"""Mesh files of strangers: read as other programs mean them, refused before their sizes are
believed."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh

from devtools.painted import colored, plain, written
from stages.contract import BadInput
from stages.export import read
from stages.export.model import Corners, sampled
from stages.export.read import read_model, texels_of

CLAIMS = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\n"
    b"property float x\nproperty float y\nproperty float z\nend_header\n"
)
"""A .ply file of 48 GB, in its own words."""


def glb_of(document: dict, binary: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary)),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(binary), b"BIN\0"),
            binary,
        ]
    )


@pytest.mark.parametrize("name", ["glb", "obj"])
def test_a_texture_comes_back_with_its_seams_joined(ball, name, tmp_path):
    found = read_model(written(ball, name, tmp_path))
    assert len(found.vertices) == len(ball.vertices)
    assert len(found.faces) == len(ball.faces)
    assert found.uv is not None
    middle = found.vertices[found.faces].mean(axis=1)[:, 1]
    seen = sampled(texels_of(found.color_png), found.uv.mean(axis=1))
    red = seen[:, 0] > seen[:, 2]
    assert (red == (middle > 0))[np.abs(middle) > 0.05].all()


@pytest.mark.parametrize("name", ["glb", "obj", "ply"])
def test_colours_at_vertices_come_back(ball, name, tmp_path):
    model = colored(ball)
    found = read_model(written(model, name, tmp_path))
    assert found.colors is not None
    order = [np.lexsort(np.round(one.vertices, 4).T) for one in (model, found)]
    difference = model.colors[order[0]].astype(int) - found.colors[order[1]]
    assert np.abs(difference).max() <= 8, "trimesh keeps glTF's linear colours in 8 bits"
    assert np.abs(difference).mean() < 1.0


@pytest.mark.parametrize("name", ["glb", "obj", "ply", "stl"])
def test_a_plain_mesh_comes_back(ball, name, tmp_path):
    found = read_model(written(plain(ball), name, tmp_path))
    assert len(found.faces) == len(ball.faces)
    assert found.uv is None
    assert found.colors is None or name == "ply"


@pytest.mark.parametrize("name", ["box.glb", "box.obj", "box.ply", "box.stl"])
@pytest.mark.parametrize("normals", [True, False], ids=["with", "without"])
def test_edges_stay_edges(name, normals, tmp_path):
    """A box is flat on all sides; smooth normals would round it."""
    shape = trimesh.creation.box()
    if normals:
        shape = trimesh.Trimesh(
            shape.vertices[shape.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False
        )
    more = {"include_normals": normals} if name.endswith(("glb", "obj")) else {}
    shape.export(tmp_path / name, **more)
    found = read_model(tmp_path / name)
    assert len(found.vertices) == 8
    normals = Corners(found).normals
    assert len(normals) == 24
    assert np.abs(normals).max(axis=1) == pytest.approx(np.ones(24))


@pytest.mark.parametrize("name", ["ball.obj", "ball.stl"])
def test_what_is_round_stays_round(name, tmp_path):
    shape = trimesh.creation.icosphere(3)
    more = {"include_normals": False} if name.endswith("obj") else {}
    shape.export(tmp_path / name, **more)
    corners = Corners(read_model(tmp_path / name))
    assert len(corners.vertices) == len(shape.vertices)
    assert np.einsum("vc,vc->v", corners.normals, corners.vertices).min() > 0.99


def test_what_an_obj_names_elsewhere_is_not_read(ball, tmp_path):
    written(ball, "obj", tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    text = (tmp_path / "mesh.obj").read_text().replace("mesh.mtl", "../mesh.mtl")
    (inner / "mesh.obj").write_text(text)
    assert read_model(inner / "mesh.obj").uv is None
    (inner / "mesh.mtl").symlink_to(tmp_path / "mesh.mtl")
    assert read_model(inner / "mesh.obj").uv is None


def test_a_material_of_one_colour_is_that_colour(ball, tmp_path):
    shape = trimesh.Trimesh(ball.vertices, ball.faces, process=False)
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=(200, 100, 50, 255))
    shape.visual = trimesh.visual.TextureVisuals(material=material)
    shape.export(tmp_path / "one.glb")
    colors = read_model(tmp_path / "one.glb").colors
    assert colors is not None
    assert np.ptp(colors, axis=0).max() == 0
    # A glTF factor is linear light: 0.78, 0.39 and 0.2 of it are these in sRGB.
    assert colors[0] == pytest.approx((229, 169, 122), abs=2)
    shape.visual.material.baseColorFactor = None
    shape.export(tmp_path / "none.glb")
    assert read_model(tmp_path / "none.glb").colors is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.glb", b""),
        ("cut.glb", b"glTF\x02\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7fJSON{}"),
        ("other.glb", b"\x89PNG" * 20),
        ("words.obj", b"v 1 2\nv a b c\nf 1 2 3\n"),
        ("points.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"),
        ("far.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"),
        ("nan.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
        ("huge.obj", b"v 0 0 1e300\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
        ("one.obj", b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n"),
        ("claims.stl", bytes(80) + struct.pack("<I", 1 << 31) + bytes(50)),
        ("claims.ply", CLAIMS),
        ("none.ply", b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n"),
        ("mesh.fbx", b"Kaydara FBX Binary"),
    ],
)  # fmt: skip
def test_no_usable_mesh_is_refused_with_its_name(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=name):
        read_model(tmp_path / name)


def _triangle(**accessor):
    """A .glb file's document, with something else said of its positions."""
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": 36}]
    known = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
    known = {key: value for key, value in {**known, **accessor}.items() if value is not None}
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [known],
        "bufferViews": views,
        "buffers": [{"byteLength": 36}],
    }


def test_a_glb_that_claims_more_than_it_has_is_refused(tmp_path):
    points = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0)], "<f4").tobytes()
    file = tmp_path / "a.glb"
    file.write_bytes(glb_of(_triangle(), points))
    assert len(read_model(file).faces) == 1
    for claim in (
        {"bufferView": None, "count": 1 << 40},
        {"bufferView": None},
        {"count": 1 << 40},
        {"count": -5},
        {"sparse": {"count": 1}},
    ):
        file.write_bytes(glb_of(_triangle(**claim), points))
        with pytest.raises(BadInput, match=r"a\.glb"):
            read_model(file)
    file.write_bytes(glb_of(_triangle(), points)[:-5])
    with pytest.raises(BadInput, match="ends in the middle"):
        read_model(file)
    document = _triangle()
    document["nodes"] = [{"mesh": 0}] * 3
    document["accessors"][0]["count"] = read.MOST_NUMBERS
    file.write_bytes(glb_of(document, points))
    with pytest.raises(BadInput, match="too often"):
        read_model(file)


def test_files_faces_and_pictures_beyond_the_limits_are_refused(ball, tmp_path, monkeypatch):
    file = written(ball, "glb", tmp_path)
    for limit, value, why in (
        ("MOST_FACES", 100, "100 are the most"),
        ("MOST_PIXELS", 1000, "too many"),
        ("MOST_BYTES", 1000, "larger"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(read, limit, value)
            with pytest.raises(BadInput, match=why):
                read_model(file)
    assert len(read_model(file).faces) == len(ball.faces)
