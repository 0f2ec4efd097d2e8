"""Files are told by their first bytes, whatever their names say."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from devtools.fakes.tools import cli_environment
from devtools.given_meshes import box_glb, box_obj, box_ply, box_stl
from stages.contract.filetypes import HEAD, identify

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def encoded(file_format: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (16, 16)).save(stream, file_format, **options)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("picture.png", b"")
    return stream.getvalue()


def box(*brands: bytes) -> bytes:
    """The beginning of an ISO media file with these brands, the main one first."""
    content = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(content)).to_bytes(4, "big") + b"ftyp" + content + b"\0\0\0\x08meta"


@pytest.mark.parametrize(
    ("file_format", "mode", "options", "name"),
    [
        ("PNG", "RGBA", {}, "png"),
        ("JPEG", "RGB", {}, "jpeg"),
        ("JPEG", "CMYK", {}, "jpeg"),
        ("MPO", "RGB", {}, "jpeg"),
        ("WEBP", "RGB", {"lossless": True}, "webp"),
        ("GIF", "P", {}, "gif"),
        ("BMP", "RGB", {}, "bmp"),
        ("TIFF", "RGB", {}, "tiff"),
        ("TIFF", "RGB", {"big_tiff": True}, "tiff"),
        ("AVIF", "RGB", {}, "avif"),
        ("JPEG2000", "RGB", {}, "jpeg2000"),
        ("JPEG2000", "RGB", {"no_jp2": True}, "jpeg2000"),
    ],
)
def test_each_kind_of_picture_is_known_as_one(file_format, mode, options, name):
    try:
        content = encoded(file_format, mode, **options)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow writes no {file_format}: {error}")
    found = identify(content[:HEAD])
    assert found is not None
    assert found.name == name
    assert found.picture


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (box(b"heic", b"mif1", b"heic"), "heic"),
        (box(b"mif1", b"mif1", b"heic"), "heic"),
        (box(b"mif1", b"mif1", b"avif", b"miaf"), "avif"),
        (box(b"avif", b"mif1"), "avif"),
        (b"MM\0*\0\0\0\x08", "tiff"),
        (b"\xff\xd8\xff\xdb", "jpeg"),
    ],
)
def test_pictures_that_pillow_may_not_write_are_known_too(head, name):
    found = identify(head)
    assert found is not None
    assert (found.name, found.picture) == (name, True)


@pytest.mark.parametrize(
    ("head", "name", "says"),
    [
        (LFS, "git-lfs", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "html", "download"),
        (b"\xef\xbb\xbf<HTML lang=en>", "html", "download"),
        (b"<!-- saved from --><html>", "html", "download"),
        (b'<?xml version="1.0"?>\n<!-- Inkscape -->\n<svg width="1">', "svg", "PNG"),
        (b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'>", "svg", "PNG"),
        (b"%PDF-1.7\n", "pdf", "PNG"),
        (box(b"isom", b"mp42"), "video", "frames"),
        (box(b"qt  "), "video", "frames"),
        (box(b"crx "), "raw", "raw converter"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw", "raw converter"),
        (b"8BPS\0\1", "psd", "PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jpegxl", "PNG"),
        (b"\xff\x0a\xfa\x1f", "jpegxl", "PNG"),
        (b"v/1\x01\2\0\0\0", "exr", "PNG"),
        (b"\0\0\1\0\2\0\x10\x10", "ico", "PNG"),
        (zipped(), "archive", "unpack"),
        (b"\x1f\x8b\x08", "archive", "unpack"),
        (b"\0\x05\x16\x07\0\2\0\0", "appledouble", "._"),
        (b"glTF\2\0\0\0", "glb", "PNG"),
        (bytes(512), "zeros", "again"),
    ],
)
def test_what_is_taken_for_a_picture_is_named_with_what_to_do(head, name, says):
    found = identify(head)
    assert found is not None
    assert (found.name, found.picture) == (name, False)
    assert says in found.remedy


@pytest.mark.parametrize(
    "head",
    [b"", b"1 2 3", b"BMW is a car, no bitmap", b"P3 is a chip", b"ftyp", b"\xff", b"\0\1\2"],
)
def test_anything_else_is_not_known(head):
    assert identify(head) is None


@pytest.mark.timeout(300)  # measured: under 10 ms; what backtracks does not end
def test_no_beginning_takes_long():
    hostile = [
        b"<!---->" * 200,
        b"<?xml ?>" * 200,
        b" " * HEAD,
        b"<?xml" + b"?" * HEAD,
        b"<" * HEAD,
    ]
    for head in hostile:
        assert identify(head) is None


def test_telling_files_apart_imports_nothing_heavy():
    code = (
        "import sys, stages.contract.filetypes\n"
        "print(sorted({'numpy', 'PIL', 'torch', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=cli_environment(), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (box_glb(), "glb"),
        (box_ply(), "ply"),
        (box_ply(binary=False).replace(b"\n", b"\r\n"), "ply"),
        (box_stl(), "stl"),
        (box_stl(header=b"solid of a program that lies"), "stl"),
        (box_stl(binary=False), "stl"),
        (box_obj(), "obj"),
        (b"# made by hand\n\n" + box_obj().partition(b"\n")[2], "obj"),
        (b'{\n "accessors" : [ {"count": 3} ]', "gltf"),
        (b' {"asset":{"version":"2.0"}', "gltf"),
    ],
)
def test_meshes_are_known(content, name):
    found = identify(content[:HEAD], len(content))
    assert found is not None
    assert (found.name, found.mesh, found.picture) == (name, True, False)
    assert "3D model" in found.title


@pytest.mark.parametrize(
    "content",
    [
        b"v is for vase\nf for figure\n",
        b"o captain, my captain\n",
        b"v 1 2\n",
        b"# a comment\n",
        b'{"name": "robot", "nodes": 3}',
        b"solid as a rock\n",
        b"ply\n",
        box_stl()[:-1],
    ],
)
def test_what_only_resembles_a_mesh_is_none(content):
    assert identify(content[:HEAD], len(content)) is None
