"""Files that are empty, damaged, too large, or reach for what is not theirs."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.given_meshes import (
    atlas,
    box_document,
    box_glb,
    box_mtl,
    box_obj,
    box_ply,
    box_stl,
    encoded,
    glb,
    zipped,
)
from stages.contract import BadInput

GREY = [188, 188, 188]


def changed(**changes: Any) -> bytes:
    return box_glb(**changes)


def with_accessor(number: int, **values: Any) -> bytes:
    document, blob = box_document()
    document["accessors"][number] |= values
    return glb(document, blob)


def with_positions(value: float) -> bytes:
    document, blob = box_document()
    return glb(document, struct.pack("<f", value) + blob[4:])


def zeros_for_points() -> bytes:
    document, blob = box_document()
    del document["accessors"][0]["bufferView"]
    return glb(document, blob)


def deep(levels: int) -> bytes:
    return b'{"asset": {"version": "2.0"}, "nodes": ' + b"[" * levels + b"]" * levels + b"}"


BAD = {
    "nothing": (b"", "is empty"),
    "a picture": (encoded(atlas()), "is a PNG picture"),
    "some text": (b"a red vase\n", "no mesh that can be read"),
    "zero bytes": (bytes(5000), "zero bytes"),
    "an empty archive": (zipped({}), "holds 0"),
    "two meshes": (zipped({"a.glb": box_glb(), "b/c.stl": box_stl()}), "holds 2: a.glb, b/c.stl"),
    "an archive cut off": (zipped({"box.obj": box_obj()})[:200], "archive cannot be read"),
    "an empty mesh in it": (zipped({"a.obj": b""}), "a.obj is empty"),
    "a text called .glb": (zipped({"a.glb": b"hello"}), "damaged or incomplete"),
    "glb, cut off": (box_glb()[:-40], "was not copied or downloaded to its end"),
    "glb 1": (b"glTF" + struct.pack("<II", 1, 20) + bytes(8), "version 1"),
    "glb of nothing": (glb({"asset": {"version": "2.0"}}), "has no faces"),
    "glb without a version": (glb({}), "damaged or incomplete"),
    "gltf 1": (glb({"asset": {"version": "1.0"}}), "of version 1.0"),
    "gltf too deep": (deep(100_000), "damaged or incomplete"),
    "no data": (glb(box_document()[0]), "is not in it"),
    "nodes in a circle": (
        changed(nodes=[{"children": [1]}, {"children": [0], "mesh": 0}]),
        "stands in the scene twice",
    ),
    "a node that is not there": (changed(nodes=[{"children": [7]}]), "damaged"),
    "a node at infinity": (changed(nodes=[{"mesh": 0, "translation": [1e999, 0, 0]}]), "damaged"),
    "too many points": (with_accessor(0, count=10**9), "the limit is"),
    "too many faces": (with_accessor(2, count=3 * 10**9), "the limit is"),
    "a negative number": (with_accessor(0, count=-4), "damaged"),
    "beyond the buffer": (with_accessor(0, byteOffset=10**6), "beyond the end"),
    "before the buffer": (with_accessor(0, byteOffset=-12), "beyond the end"),
    "zeros for points": (zeros_for_points(), "point or a line"),
    "not a number": (with_positions(float("nan")), "no numbers to work with"),
    "too far away": (with_positions(1e30), "no numbers to work with"),
    "Draco": (changed(extensionsRequired=["KHR_draco_mesh_compression"]), "needs Draco"),
    "meshopt": (changed(extensionsRequired=["EXT_meshopt_compression"]), "needs meshopt"),
    "an extension of tomorrow": (changed(extensionsRequired=["EXT_x"]), "extension EXT_x"),
    "a point cloud": (box_ply().replace(b"element face 6", b"element face 0"), "has no faces"),
    "ply, cut off": (box_ply()[:-10], "damaged"),
    "ply that claims much": (
        box_ply().replace(b"element face 6", b"element face 1500000"),
        "bytes for 1,500,024 elements",
    ),
    "ply beyond the limit": (
        box_ply().replace(b"element face 6", b"element face 99999999999"),
        "the limit is 2,000,000",
    ),
    "ply without an end": (b"ply\nformat ascii 1.0\nelement vertex 1\n", "header has no end"),
    "stl, cut off": (box_stl()[:-7], "no mesh that can be read"),
    "stl of text without faces": (b"solid x\nfacet normal 0 0 0\nendsolid x\n", "has no faces"),
    "obj without faces": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has no faces"),
    "glb: cut in its header": (b"glTFrubbish", "it ends before all is there"),
    "obj: no such vertex": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "not there"),
    "obj: before the first": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -4 1 2\n", "not there"),
    "obj: number 0": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "number 0"),
    "obj: a line": (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "point or a line"),
    "obj: nan": (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "no numbers to work with"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_mesh_is_said(name, look):
    data, told = BAD[name]
    with pytest.raises(BadInput) as caught:
        look(data)
    assert told in caught.value.message, caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "data", [box_glb(), box_ply(), box_stl(), box_stl(binary=False), box_obj()]
)
def test_the_limit_of_faces_holds_for_every_format(data, look):
    look(data, max_faces=12)
    with pytest.raises(BadInput, match=r"faces"):
        look(data, max_faces=11)


def test_the_limit_of_bytes_holds_for_what_an_archive_unpacks_to(look):
    data = zipped({"box.obj": box_obj(), "zeros.png": bytes(5 << 20)}, compressed=True)
    assert len(data) < 20_000
    with pytest.raises(BadInput, match="more than the limit of 1,048,576"):
        look(data, max_bytes=1 << 20)
    with pytest.raises(BadInput, match="more than the limit of 1,024"):
        look(box_glb(), max_bytes=1024)


def test_a_member_that_is_longer_than_it_says_is_refused(look):
    data = bytearray(zipped({"box.obj": box_obj()}, compressed=True))
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 10)  # uncompressed size, in the directory
    with pytest.raises(BadInput):
        look(bytes(data))


def test_an_archive_with_a_password_is_refused(look):
    data = bytearray(zipped({"box.obj": box_obj()}))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadInput, match="archive cannot be read"):
        look(bytes(data))


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../../etc/hostname", "file:///etc/hostname", "http://127.0.0.1/x"]
)
def test_what_is_not_in_the_archive_is_not_looked_for(name, look, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened a file or a connection")

    obj = zipped({"box.obj": box_obj(name), "box.mtl": box_mtl()})
    document, blob = box_document()
    document["images"] = [{"uri": name}]
    ply = box_ply().replace(
        b"element vertex", b"comment TextureFile %s\nelement vertex" % name.encode(), 1
    )
    look(box_glb())
    look(box_ply())  # what they import is loaded
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    for data in (obj, glb(document, blob), ply):
        looked = look(data)
        if data is not ply:
            assert [name in text for text in looked.degraded] == [True]
    document["buffers"] = [{"byteLength": 10, "uri": name}]
    with pytest.raises(BadInput, match="is not beside it"):
        look(glb(document, blob))


def test_missing_pictures_leave_the_shape_and_are_told(look):
    looked = look(zipped({"box.obj": box_obj(), "box.mtl": box_mtl("gone.png")}))
    assert looked.degraded == [
        "gone.png, which the mesh names, is not beside it: its colours are missing"
    ]
    assert looked.centers().tolist() == [[255, 0, 0]] * 4, "Kd is what is left"
    looked = look(box_obj(), light="even")
    assert looked.centers().tolist() == [GREY] * 4
    assert "box.mtl" in looked.degraded[0]


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (b"no picture at all", "is no picture that can be read"),
        (encoded(atlas())[:200], "cannot be read"),
        (b"%PDF-1.7", "is a PDF document"),
    ],
)
def test_pictures_that_cannot_be_read_are_told(picture, told, look):
    looked = look(box_glb(picture=picture))
    assert told in looked.degraded[0]
    assert looked.centers().tolist() == [[255, 255, 255]] * 4


def test_a_huge_picture_is_refused_before_it_is_decoded(look):
    bomb = bytearray(encoded(Image.new("1", (16, 16))))
    struct.pack_into(">II", bomb, 16, 60_000, 60_000)
    struct.pack_into(">I", bomb, 29, zlib.crc32(bomb[12:29]))
    with pytest.raises(BadInput, match="60000 x 60000 pixels"):
        look(box_glb(picture=bytes(bomb)))
    with pytest.raises(BadInput, match="96 x 64 pixels"):
        look(box_glb(), max_pixels=6000)


def test_names_that_are_no_unicode_are_spelled_out(look):
    document, blob = box_document()
    document["images"] = [{"uri": "a\ud800.png"}]
    (told,) = look(glb(document, blob)).degraded
    assert told.encode()
    assert "\\ud800" in told
    document["extensionsRequired"] = ["\ud800"]
    with pytest.raises(BadInput) as caught:
        look(glb(document, blob))
    assert caught.value.message.encode()


def test_a_texture_only_for_gpus_is_told(look):
    document, blob = box_document()
    document["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    assert "KTX2" in look(glb(document, blob)).degraded[0]


def test_flat_polygons_of_many_corners_count_as_many_faces(look):
    corners = 5000
    angle = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    text = "".join(f"v {np.cos(a):.6f} {np.sin(a):.6f} 0\n" for a in angle)
    data = (text + "f " + " ".join(map(str, range(1, corners + 1))) + "\n").encode()
    assert len(look(data).mesh.faces) == corners - 2
    with pytest.raises(BadInput, match="more than 4,000 faces"):
        look(data, max_faces=4000)


def test_lines_and_points_are_left_out_and_told(look):
    document, blob = box_document()
    part = document["meshes"][0]["primitives"][0]
    document["meshes"][0]["primitives"].append({**part, "mode": 1})
    looked = look(glb(document, blob))
    assert looked.said == ["points and lines of the mesh are left out"]
    assert len(looked.mesh.faces) == 12


def test_repeated_meshes_are_counted_as_often_as_they_stand_there(look):
    nodes = [{"mesh": 0, "translation": [number, 0, 0]} for number in range(40)]
    data = changed(nodes=nodes, scenes=[{"nodes": list(range(40))}])
    assert len(look(data).mesh.faces) == 480
    with pytest.raises(BadInput, match="480 faces"):
        look(data, max_faces=400)


def test_hidden_and_macos_files_of_an_archive_are_no_meshes(look):
    files = {"box.glb": box_glb(), "__MACOSX/._box.glb": b"x", "a/.old.obj": box_obj()}
    assert len(look(zipped(files)).mesh.faces) == 12


def test_names_in_an_archive_lead_nowhere(look, tmp_path):
    outside = tmp_path / "outside.txt"
    data = zipped({"box.glb": box_glb(), f"../../../..{outside}": b"x", "/etc/x": b"x"})
    look(data)
    assert not outside.exists()


@pytest.mark.parametrize("kind", ["glb", "ply", "text ply", "stl", "text stl", "obj"])
def test_damage_of_any_kind_ends_as_bad_input(kind, look):
    """A file with some bytes changed, added and taken away is read, or refused with a sentence."""
    data = {
        "glb": box_glb(),
        "ply": box_ply(),
        "text ply": box_ply(binary=False),
        "stl": box_stl(),
        "text stl": box_stl(binary=False),
        "obj": box_obj(),
    }[kind]
    draw = random.Random(7)
    read = 0
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 2, 8))):
            at = draw.randrange(len(damaged))
            part = draw.choice((b"9", b"-", b"1e99", b"nan", b"\xff\xff", draw.randbytes(3)))
            damaged[at : at + draw.randrange(4)] = part
        with contextlib.suppress(BadInput):
            look(bytes(damaged))
            read += 1
    assert 0 < read < 40
