"""Values become files and come back as they were; files that people give are read or refused."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from stages.contract import ArtifactSpec, BadInput, ContractError, Mesh, codec, user_files
from stages.contract.user_files import read_any

ARRAY = ArtifactSpec("thing", "array", "")
TEXT = ArtifactSpec("words", "text", "")
BLOB = ArtifactSpec("blob", "file", "", suffix=".glb")
MESH = ArtifactSpec("mesh", "mesh", "")
RGB = ArtifactSpec("picture", "image", "", ("S", "S", 3), "uint8")
GREY = ArtifactSpec("alpha", "image", "", ("S", "S", 1), "uint8")
RGBA = ArtifactSpec("cutout", "image", "", ("S", "S", 4), "uint8")
FLOATS = ArtifactSpec("bundle", "image", "", ("H", "W", 3), "float32", (0.0, 1.0))
TILES = ArtifactSpec("views", "image", "", (3, "S", "S", 3), "uint8")

DTYPES = (
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64)) | hnp.complex_number_dtypes(sizes=(64, 128))
)  # fmt: skip
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
TRIANGLE_OBJ = "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("codec")


def round_trip(folder: Path, spec: ArtifactSpec, value: object) -> object:
    paths = []
    for name, payload in codec.payloads(spec, value):
        paths.append(folder / name)
        paths[-1].write_bytes(codec.payload_bytes(payload))
    return codec.read(spec, paths)


@given(array=ARRAYS)
@settings(deadline=None)
def test_an_array_comes_back_as_it_was(folder, array):
    found = round_trip(folder, ARRAY, array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    del found


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(4, 6)[::2, ::-1],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.broadcast_to(np.float32(1), (3, 3)),
        np.float32(2.5) * np.ones(()),
    ],
    ids=["strided", "fortran", "broadcast", "0-d"],
)
def test_the_layout_in_memory_does_not_matter(tmp_path, array):
    found = round_trip(tmp_path, ARRAY, array)
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_an_array_that_was_read_cannot_be_written_to(tmp_path):
    found = round_trip(tmp_path, ARRAY, np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


@given(array=ARRAYS)
@settings(deadline=None, max_examples=50)
def test_a_files_size_is_known_before_it_is_written(array):
    assert codec.payload_size(array) == len(codec.payload_bytes(array))


@given(text=st.text())
@settings(deadline=None)
def test_a_text_comes_back_as_it_was(folder, text):
    assert round_trip(folder, TEXT, text) == text


@pytest.mark.parametrize("text", ["a\r\nb\rc\n", "\ufeffbom", "größe 杯 🫖", ""])
def test_a_text_keeps_its_line_ends_and_its_marks(tmp_path, text):
    assert round_trip(tmp_path, TEXT, text) == text


@given(content=st.binary())
@settings(deadline=None, max_examples=20)
def test_a_file_comes_back_as_it_was(folder, content):
    assert round_trip(folder, BLOB, content) == content


@pytest.mark.parametrize("colors", [None, np.array([[0, 128, 255]] * 3, np.uint8)])
def test_a_mesh_comes_back_as_it_was(tmp_path, colors):
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), colors)
    found = round_trip(tmp_path, MESH, mesh)
    MESH.check(found)
    np.testing.assert_equal(vars(found), vars(mesh))


def test_a_mesh_is_read_under_another_name_than_its_stage_gave_it(tmp_path):
    """A node may read as `body` what another wrote as `mesh`."""
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    paths = [tmp_path / name for name, _ in codec.payloads(MESH, mesh)]
    for path, (_, payload) in zip(paths, codec.payloads(MESH, mesh), strict=True):
        path.write_bytes(codec.payload_bytes(payload))
    found = codec.read(replace(MESH, name="body"), paths)
    np.testing.assert_equal(vars(found), vars(mesh))
    with pytest.raises(ContractError, match=r"body\.faces\.npy is missing"):
        codec.read(replace(MESH, name="body"), paths[:1])


def object_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["thing.npy", "given_by_hand.npy"], ids=["ours", "foreign"])
@pytest.mark.parametrize("wrap", [pickle.dumps, lambda bomb: object_npy(np.array([bomb]))])
def test_a_pickle_is_never_opened(tmp_path, name, wrap):
    trace = tmp_path / "trace"
    (tmp_path / name).write_bytes(wrap(Bomb(trace)))
    with pytest.raises((ContractError, BadInput)):
        codec.read(ARRAY, [tmp_path / name])
    assert not trace.exists()


def test_an_object_array_is_not_written():
    with pytest.raises((ValueError, TypeError)):
        codec.payload_bytes(np.array([{}]))


@pytest.mark.parametrize(
    ("spec", "name", "content"),
    [
        (ARRAY, "thing.npy", b""),
        (ARRAY, "thing.npy", b"\x93NUMPY"),
        (ARRAY, "thing.npy", codec.payload_bytes(np.zeros(9))[:-1]),
        (TEXT, "words.txt", b"\xff\xfe"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, spec, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContractError, match=spec.name):
        codec.read(spec, [tmp_path / name])


def test_a_zip_is_no_array(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    (tmp_path / "thing.npy").write_bytes(buffer.getvalue())
    with pytest.raises(ContractError):
        codec.read(ARRAY, [tmp_path / "thing.npy"])


def test_a_missing_part_is_named(tmp_path):
    vertices = tmp_path / "mesh.vertices.npy"
    vertices.write_bytes(codec.payload_bytes(np.eye(3)))
    with pytest.raises(ContractError, match=r"mesh\.faces\.npy is missing"):
        codec.read(MESH, [vertices])
    with pytest.raises(ContractError, match=r"thing\.npy is missing"):
        codec.read(ARRAY, [])
    with pytest.raises(ContractError, match=r"thing\.npy"):
        codec.read(ARRAY, [tmp_path / "thing.npy"])


def test_inputs_are_held_to_their_promise(tmp_path):
    (tmp_path / "picture.npy").write_bytes(codec.payload_bytes(np.zeros((2, 3, 3), np.uint8)))
    with pytest.raises(ContractError, match="expected shape"):
        codec.as_inputs([RGB], {"picture": [tmp_path / "picture.npy"]})
    with pytest.raises(ContractError, match="input picture was not given"):
        codec.as_inputs([RGB], {"picture": []})
    optional = ArtifactSpec("hint", "text", "", optional=True)
    assert codec.as_inputs([optional], {}) == {}


@pytest.mark.parametrize(
    ("array", "size", "first"),
    [
        (np.full((2, 4, 3), 255, np.uint8), (4, 2), (255, 255, 255)),
        (np.full((2, 4, 1), 7, np.uint8), (4, 2), 7),
        (np.full((2, 4, 3), 0.5, np.float32), (4, 2), (128, 128, 128)),
        (np.full((2, 4, 3), 1.5, np.float32), (4, 2), (255, 255, 255)),
        (np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3), (6, 2), (0, 1, 2)),
    ],
    ids=["colour", "grey", "floats", "clipped", "tiles"],
)
def test_a_preview_is_a_picture_for_people(array, size, first):
    with Image.open(io.BytesIO(codec.preview_png(array))) as picture:
        assert picture.size == size
        assert picture.getpixel((0, 0)) == first


def test_the_preview_of_tiles_reads_back_as_those_tiles(tmp_path):
    tiles = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    (tmp_path / "any.png").write_bytes(codec.preview_png(tiles))
    np.testing.assert_array_equal(read_any(TILES, tmp_path / "any.png"), tiles)


@pytest.fixture
def png(tmp_path):
    def write(pixels: np.ndarray, name: str = "given.png") -> Path:
        Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    return write


def test_a_picture_becomes_what_the_spec_wants(png):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_any(RGB, png(pixels)), pixels)
    floats = read_any(FLOATS, png(pixels))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, pixels / 255.0, atol=1e-6)
    opaque = read_any(RGBA, png(pixels))
    np.testing.assert_array_equal(opaque, np.dstack([pixels, np.full((4, 4), 255, np.uint8)]))


def test_a_grey_picture_has_one_channel_or_three_alike(png):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(read_any(GREY, png(pixels)), pixels[..., None])
    np.testing.assert_array_equal(read_any(RGB, png(pixels)), np.dstack([pixels] * 3))


def test_an_obj_becomes_a_mesh_with_its_colours(tmp_path):
    (tmp_path / "given.obj").write_text(TRIANGLE_OBJ)
    mesh = codec.read(MESH, [tmp_path / "given.obj"])
    MESH.check(mesh)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])
    np.testing.assert_array_equal(mesh.colors, np.eye(3, dtype=np.uint8) * 255)


def test_an_obj_without_colours_has_none(tmp_path):
    (tmp_path / "given.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert read_any(MESH, tmp_path / "given.obj").colors is None


def test_an_npy_of_another_name_is_read(tmp_path):
    np.save(tmp_path / "given.npy", np.arange(3.0))
    np.testing.assert_array_equal(codec.read(ARRAY, [tmp_path / "given.npy"]), np.arange(3.0))


def test_a_text_and_a_file_may_have_any_name(tmp_path):
    (tmp_path / "note").write_text("größe", encoding="utf-8")
    assert codec.read(TEXT, [tmp_path / "note"]) == "größe"
    assert codec.read(BLOB, [tmp_path / "note"]) == "größe".encode()


@pytest.mark.parametrize(
    ("spec", "name", "content", "says"),
    [
        (RGB, "a.png", b"no picture", "cannot identify"),
        (RGB, "a.obj", b"", "cannot be the input picture"),
        (MESH, "a.png", b"", "cannot be the input mesh"),
        (ARRAY, "a.png", b"", "cannot be the input thing"),
        (ARRAY, "a", b"", "cannot be the input thing"),
        (ARRAY, "a.npy", b"", "not a .npy file"),
        (ARRAY, "a.npy", b"\x93NUMPY\x01\x00\x05\x00  (\n\n", "a.npy"),
        (MESH, "a.obj", b"", "no faces"),
        (MESH, "a.obj", b"v 0 0 0\nf 1 2 3\n", "a.obj"),
        (MESH, "a.glb", b"glTF", "a.glb"),
        (MESH, "a.ply", b"ply\nhuh", "a.ply"),
        (TEXT, "a.txt", b"\xff", "decode"),
        (TEXT, "missing.txt", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_the_input_is_refused_by_its_name(
    tmp_path, spec, name, content, says
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_any(spec, tmp_path / name)
    assert says in caught.value.message
    assert name in caught.value.message


def test_a_picture_of_the_wrong_form_is_refused_with_the_form_it_should_have(png):
    with pytest.raises(BadInput, match=r"expected shape \(S, S, 3\)"):
        read_any(RGB, png(np.zeros((4, 6, 3), np.uint8)))
    with pytest.raises(BadInput, match="10 x 4, which is no row of square tiles"):
        read_any(TILES, png(np.zeros((4, 10, 3), np.uint8)))
    with pytest.raises(BadInput, match=r"expected shape \(3, S, S, 3\)"):
        read_any(TILES, png(np.zeros((4, 8, 3), np.uint8)))


def test_half_a_picture_is_refused(png):
    path = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="truncated"):
        read_any(RGB, path)


def test_a_picture_that_would_fill_the_memory_is_refused(png, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadInput, match="decompression bomb"):
        read_any(RGB, png(np.zeros((16, 16, 3), np.uint8)))


@pytest.mark.parametrize("error", [ImportError("trimesh"), MemoryError()])
def test_a_fault_of_the_machine_is_not_blamed_on_the_file(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    (tmp_path / "a.obj").write_text(TRIANGLE_OBJ)
    monkeypatch.setattr(user_files, "_read_mesh", fail)
    with pytest.raises(type(error)):
        read_any(MESH, tmp_path / "a.obj")
