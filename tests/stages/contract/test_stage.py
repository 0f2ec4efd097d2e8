"""A spec says yes to what it promises and names what is wrong with anything else."""

from __future__ import annotations

import numpy as np
import pytest

from stages.contract import ArtifactSpec, ContractError, Mesh, Params, artifacts

SQUARE = ArtifactSpec("square", "image", "", ("S", "S", 3), "uint8")
PAIR = ArtifactSpec("pair", "array", "", (2, "N", "M"), "float32")
UNIT = ArtifactSpec("unit", "array", "", ("N",), "float32", (0.0, 1.0))
ANY = ArtifactSpec("any", "array", "")
TEXT = ArtifactSpec("text", "text", "")
FILE = ArtifactSpec("file", "file", "")
MESH = ArtifactSpec("mesh", "mesh", "")


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def mesh(vertices=None, faces=None, colors=None) -> Mesh:
    return Mesh(
        np.eye(3, dtype=np.float32) if vertices is None else vertices,
        np.array([[0, 1, 2]], np.int32) if faces is None else faces,
        colors,
    )


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (SQUARE, zeros(4, 4, 3, dtype="uint8")),
        (SQUARE, zeros(0, 0, 3, dtype="uint8")),
        (PAIR, zeros(2, 5, 7)),
        (PAIR, zeros(2, 5, 5)),
        (UNIT, np.float32([0, 0.5, 1])),
        (UNIT, zeros(0)),
        (ANY, zeros()),
        (ANY, np.arange(3)),
        (ANY, np.array([True])),
        (TEXT, ""),
        (FILE, b""),
        (MESH, mesh()),
        (MESH, mesh(colors=zeros(3, 3, dtype="uint8"))),
        (MESH, mesh(faces=np.array([[2, 2, 2]], np.int32))),
    ],
)
def test_what_was_promised_passes(spec, value):
    spec.check(value)


@pytest.mark.parametrize(
    ("spec", "value", "says"),
    [
        (SQUARE, zeros(4, 5, 3, dtype="uint8"), "expected shape (S, S, 3), got uint8 (4, 5, 3)"),
        (SQUARE, zeros(4, 4, 1, dtype="uint8"), "expected shape (S, S, 3), got uint8 (4, 4, 1)"),
        (SQUARE, zeros(4, 4, dtype="uint8"), "expected shape (S, S, 3), got uint8 (4, 4)"),
        (SQUARE, zeros(1, 4, 4, 3, dtype="uint8"), "expected shape"),
        (SQUARE, zeros(4, 4, 3), "expected dtype uint8, got float32 (4, 4, 3)"),
        (SQUARE, [[[0, 0, 0]]], "expected an array, got list"),
        (SQUARE, None, "expected an array, got NoneType"),
        (PAIR, zeros(3, 5, 7), "expected shape (2, N, M)"),
        (PAIR, zeros(2, 5, 7, dtype="float64"), "expected dtype float32, got float64 (2, 5, 7)"),
        (UNIT, np.float32([0, 1.001]), "values span [0, 1.001], expected within [0, 1]"),
        (UNIT, np.float32([-0.5, 1]), "values span [-0.5, 1]"),
        (UNIT, np.float32([0, np.nan]), "contains NaN"),
        (ANY, np.array([np.inf]), "contains NaN or infinity"),
        (ANY, np.array([-np.inf], np.float16), "contains NaN or infinity"),
        (ANY, np.array([{}]), "expected an array"),
        (ANY, 5, "expected an array, got int"),
        (TEXT, b"bytes", "expected a str, got bytes"),
        (TEXT, None, "expected a str, got NoneType"),
        (FILE, "text", "expected bytes, got str"),
        (FILE, zeros(2), "expected bytes, got float32 (2)"),
        (MESH, zeros(3, 3), "expected a Mesh, got float32 (3, 3)"),
        (MESH, mesh(vertices=zeros(3, 2)), "mesh.vertices: expected shape (V, 3)"),
        (MESH, mesh(vertices=zeros(3, 3, dtype="float64")), "mesh.vertices: expected dtype"),
        (MESH, mesh(vertices=np.full((3, 3), np.nan, np.float32)), "mesh.vertices: contains NaN"),
        (MESH, mesh(faces=zeros(1, 4, dtype="int32")), "mesh.faces: expected shape (F, 3)"),
        (MESH, mesh(faces=zeros(1, 3, dtype="int64")), "mesh.faces: expected dtype int32"),
        (MESH, mesh(faces=zeros(0, 3, dtype="int32")), "the mesh has no faces"),
        (MESH, mesh(faces=np.array([[0, 1, 3]], np.int32)), "a face names a vertex outside 0..2"),
        (MESH, mesh(faces=np.array([[0, 1, -1]], np.int32)), "a face names a vertex outside 0..2"),
        (MESH, mesh(vertices=zeros(0, 3)), "a face names a vertex outside"),
        (MESH, mesh(colors=zeros(2, 3, dtype="uint8")), "mesh.colors: expected shape (3, 3)"),
        (MESH, mesh(colors=zeros(3, 3)), "mesh.colors: expected dtype uint8"),
    ],
)
def test_what_is_wrong_is_named(spec, value, says):
    with pytest.raises(ContractError) as caught:
        spec.check(value)
    assert says in str(caught.value)
    assert str(caught.value).startswith(spec.name)


def test_a_sign_in_one_spec_means_nothing_in_the_next_check():
    SQUARE.check(zeros(4, 4, 3, dtype="uint8"))
    SQUARE.check(zeros(5, 5, 3, dtype="uint8"))


def test_every_shared_spec_says_what_it_is_for():
    shared = [spec for spec in vars(artifacts).values() if isinstance(spec, ArtifactSpec)]
    assert all(spec.doc for spec in shared)
    assert len({spec.name for spec in shared}) == len(shared)


def test_params_refuse_what_they_do_not_know_and_cannot_be_changed():
    class Mine(Params):
        size: int = 3

    with pytest.raises(ValueError, match="siez"):
        Mine.model_validate({"siez": 4})
    with pytest.raises(ValueError, match="frozen"):
        Mine().size = 4
