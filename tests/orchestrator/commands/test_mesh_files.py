"""A mesh goes to its stage with the files of its own folder that it names, and with no others."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from devtools.given_meshes import (
    atlas,
    box_document,
    box_glb,
    box_mtl,
    box_obj,
    box_ply,
    box_stl,
    encoded,
    zipped,
)
from orchestrator.commands.mesh_files import read_mesh
from orchestrator.commands.subject import is_mesh
from orchestrator.errors import InputFileError

LIMIT = 1 << 20
PICTURE = encoded(atlas())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a mesh, with something beside that is none of its business."""
    inner = tmp_path / "mine"
    inner.mkdir()
    (tmp_path / "secret.png").write_bytes(PICTURE)
    (tmp_path / "secret.mtl").write_bytes(box_mtl())
    (inner / "other.txt").write_text("not named")
    return inner


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def gltf(buffer: str, image: str) -> tuple[bytes, bytes]:
    """A .gltf that names these files, and what belongs into the first."""
    document, blob = box_document()
    kept = blob[: -len(PICTURE)]
    document["buffers"] = [{"byteLength": len(kept), "uri": buffer}]
    document["images"] = [{"uri": image}, {"uri": "unused.png"}]
    document["bufferViews"].pop()
    return json.dumps(document).encode(), kept


@pytest.mark.parametrize(
    "content", [box_glb(), box_ply(), box_ply(binary=False), box_stl(), box_stl(binary=False)]
)
def test_a_file_that_has_all_in_it_goes_as_it_is(folder, content):
    path = put(folder, "whatever.bin", content)
    assert is_mesh(path)
    assert read_mesh(path, LIMIT) == content


def test_an_obj_brings_its_materials_and_their_pictures(folder):
    path = put(folder, "box.obj", box_obj("mat/my box.mtl"))
    put(folder, "mat/my box.mtl", box_mtl("-s 1 1 1 ../tex/the colours.png") + b"map_Bump b.png\n")
    put(folder, "tex/the colours.png", PICTURE)
    put(folder, "mat/b.png", PICTURE)
    found = members(read_mesh(path, LIMIT))
    assert list(found) == ["box.obj", "mat/my box.mtl", "tex/the colours.png"]
    assert found["tex/the colours.png"] == PICTURE


def test_a_gltf_brings_its_data_and_the_pictures_of_its_colours(folder):
    text, blob = gltf("data%20of%20it.bin", "tex/colors.png")
    path = put(folder, "scene.gltf", text)
    put(folder, "data of it.bin", blob)
    put(folder, "tex/colors.png", PICTURE)
    put(folder, "unused.png", PICTURE)
    assert list(members(read_mesh(path, LIMIT))) == [
        "scene.gltf",
        "data of it.bin",
        "tex/colors.png",
    ]


def test_the_same_files_make_the_same_archive(folder, tmp_path):
    path = put(folder, "box.obj", box_obj())
    put(folder, "box.mtl", box_mtl())
    put(folder, "colors.png", PICTURE)
    first = read_mesh(path, LIMIT)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for file in copy.iterdir():
        os.utime(file, (10**9, 10**9))
        file.chmod(0o600)
    assert read_mesh(copy / "box.obj", LIMIT) == first


def test_what_is_missing_is_left_out(folder):
    path = put(folder, "box.obj", box_obj())
    assert read_mesh(path, LIMIT) == box_obj(), "nothing to pack"
    put(folder, "box.mtl", box_mtl("gone.png"))
    assert list(members(read_mesh(path, LIMIT))) == ["box.obj", "box.mtl"]


def test_paths_of_the_machine_that_made_it_are_looked_for_beside_it(folder):
    path = put(folder, "box.obj", box_obj(r"C:\Users\me\BOX.mtl"))
    put(folder, "box.mtl", box_mtl("/home/me/colors.png"))
    put(folder, "colors.png", PICTURE)
    assert list(members(read_mesh(path, LIMIT))) == ["box.obj", "box.mtl", "colors.png"]


@pytest.mark.parametrize(
    "name", ["../secret.mtl", "/etc/secret.mtl", r"..\secret.mtl", "a/../../secret.mtl"]
)
def test_files_outside_of_the_folder_are_refused_by_name(folder, name):
    path = put(folder, "box.obj", box_obj(name))
    with pytest.raises(InputFileError, match="lies outside of its folder") as caught:
        read_mesh(path, LIMIT)
    assert name in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["http://host/a.png", "file:///etc/passwd", "//host/share/a.png"])
def test_addresses_are_refused_and_never_opened(folder, name, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    path = put(folder, "box.obj", box_obj())
    put(folder, "box.mtl", box_mtl(name))
    with pytest.raises(InputFileError, match="is an address, not a file"):
        read_mesh(path, LIMIT)
    text, _ = gltf(name, "colors.png")
    with pytest.raises(InputFileError, match="is an address, not a file"):
        read_mesh(put(folder, "scene.gltf", text), LIMIT)


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_links_may_lead_about_in_the_folder_but_not_out_of_it(folder, tmp_path):
    path = put(folder, "box.obj", box_obj())
    put(folder, "box.mtl", box_mtl())
    put(folder, "real.png", PICTURE)
    (folder / "colors.png").symlink_to("real.png")
    assert members(read_mesh(path, LIMIT))["colors.png"] == PICTURE
    (folder / "colors.png").unlink()
    (folder / "colors.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputFileError, match="lies outside of its folder"):
        read_mesh(path, LIMIT)
    (folder / "tex").symlink_to(tmp_path)
    put(folder, "box.mtl", box_mtl("tex/secret.png"))
    with pytest.raises(InputFileError, match="lies outside of its folder"):
        read_mesh(path, LIMIT)


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_what_is_no_regular_file_is_not_waited_for(folder):
    path = put(folder, "box.obj", box_obj())
    os.mkfifo(folder / "box.mtl")
    assert read_mesh(path, LIMIT) == box_obj()
    os.mkfifo(folder / "pipe.obj")
    with pytest.raises(InputFileError, match="no regular file"):
        read_mesh(folder / "pipe.obj", LIMIT)


def test_names_that_no_file_can_have_are_missing_files(folder):
    for name in ("a\ud800.png", "x" * 5000, "tex/"):
        text, blob = gltf("data.bin", name)
        put(folder, "data.bin", blob)
        found = members(read_mesh(put(folder, "scene.gltf", text), LIMIT))
        assert list(found) == ["scene.gltf", "data.bin"]


def test_a_mesh_that_names_itself_is_packed_once(folder):
    path = put(folder, "box.obj", box_obj("box.obj"))
    assert read_mesh(path, LIMIT) == box_obj("box.obj")


def test_the_limit_counts_all_files(folder):
    path = put(folder, "box.obj", box_obj())
    put(folder, "box.mtl", box_mtl())
    put(folder, "colors.png", PICTURE + bytes(LIMIT))
    with pytest.raises(InputFileError, match=r"colors\.png, which box\.obj names, is too large"):
        read_mesh(path, LIMIT)
    with pytest.raises(InputFileError, match="is too large: more than 0 MiB"):
        read_mesh(path, 100)


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (b"", "a.glb", "is empty"),
        (PICTURE, "a.glb", "is a PNG picture"),
        (b"a red vase", "a.txt", "no mesh that can be read"),
        (zipped({"a.png": PICTURE}), "a.zip", "archive without a mesh"),
        (b'{"asset": {"version": "2.0"}, "buffers": 7}', "a.gltf", "is damaged"),
        (b'{"asset": {', "a.gltf", "is damaged"),
    ],
)
def test_what_is_no_mesh_is_said(folder, content, name, told):
    with pytest.raises(InputFileError) as caught:
        read_mesh(put(folder, name, content), LIMIT)
    assert told in caught.value.message
    assert caught.value.hint


def test_missing_files_and_folders_are_said(folder):
    with pytest.raises(InputFileError, match="does not exist"):
        read_mesh(folder / "gone.glb", LIMIT)
    with pytest.raises(InputFileError, match="is a directory"):
        read_mesh(folder, LIMIT)


def test_an_archive_with_a_mesh_goes_as_it_is(folder):
    content = zipped({"box.obj": box_obj(), "box.mtl": box_mtl()})
    path = put(folder, "box.zip", content)
    assert is_mesh(path)
    assert read_mesh(path, LIMIT) == content
    assert not is_mesh(put(folder, "pictures.zip", zipped({"a.png": PICTURE})))


def test_meshes_are_told_from_other_files(folder):
    assert is_mesh(put(folder, "a.obj", b"# only a comment\n" * 100))
    assert is_mesh(put(folder, "b.gltf", gltf("b.bin", "b.png")[0]))
    assert is_mesh(put(folder, "broken.stl", b"??"))
    assert not is_mesh(put(folder, "c.png", PICTURE))
    assert not is_mesh(put(folder, "renamed.obj", PICTURE))
    assert not is_mesh(put(folder, "words.txt", b"v is for vase\n"))
    assert not is_mesh(folder)
    assert not is_mesh(folder / "gone.zip")
