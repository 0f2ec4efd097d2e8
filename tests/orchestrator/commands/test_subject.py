"""What a command line names: pictures of sides, a mask, a mesh, words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.commands.subject import (
    Subject,
    is_mesh,
    require_sides_said,
    subject_of,
    words_of,
)
from orchestrator.errors import UsageError


def test_one_picture(tmp_path):
    subject = subject_of([tmp_path / "a.png"])
    assert subject == Subject({"input_image": tmp_path / "a.png"})
    assert (subject.start, subject.name, subject.artifacts) == ("picture", "a", ["input_image"])


def test_further_pictures_are_the_back_the_left_and_the_right():
    a, b, c = Path("a.png"), Path("b.png"), Path("c.png")
    assert subject_of([a, b, c]).files == {"input_image": a, "input_back": b, "input_left": c}
    named = subject_of([a], sides=(None, None, c), mask=b)
    assert named.files == {"input_image": a, "input_mask": b, "input_right": c}


def test_a_side_is_given_once():
    with pytest.raises(UsageError, match="two pictures of the object's back"):
        subject_of([Path("a.png"), Path("b.png")], sides=(Path("c.png"), None, None))


def test_five_pictures_are_too_many():
    with pytest.raises(UsageError, match="5 pictures"):
        subject_of([Path(f"{n}.png") for n in range(5)])


def test_words_alone():
    subject = subject_of([], "  a red\nvase ")
    assert (subject.text, subject.start, subject.name) == ("a red vase", "text", "a_red_vase")
    assert subject.title == '"a red vase"'
    assert subject.artifacts == ["input_text"]


@pytest.mark.parametrize("text", ["", " \n", "x" * 4001, "half a pair \ud800"])
def test_words_that_are_none(text):
    with pytest.raises(UsageError):
        words_of(text)


def test_nothing_at_all_names_the_ways():
    with pytest.raises(UsageError) as caught:
        subject_of([])
    assert "--text" in caught.value.hint


def test_a_mask_and_sides_need_a_picture(tmp_path):
    with pytest.raises(UsageError, match="needs one of the front"):
        subject_of([], "a vase", mask=Path("m.png"))
    mesh = tmp_path / "a.glb"
    mesh.write_bytes(b"glTF" + bytes(8))
    with pytest.raises(UsageError, match="is a mesh"):
        subject_of([mesh], sides=(Path("b.png"), None, None))


def test_a_mesh_is_told_by_its_content_or_else_its_name(tmp_path):
    for name, content, mesh in (
        ("a.png", b"glTF" + bytes(8), True),
        ("b.glb", b"\x89PNG\r\n\x1a\n", False),
        ("c.stl", b"solid", True),
        ("d.img", b"nothing known", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_mesh(tmp_path / name) is mesh, name
    assert is_mesh(tmp_path / "absent.obj")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert not is_mesh(tmp_path / "pipe.png")


def test_several_pictures_without_a_word_on_their_sides_are_refused() -> None:
    files = [Path("a.png"), Path("b.png")]
    with pytest.raises(UsageError, match="which sides of the object") as error:
        require_sides_said(files, "named")
    assert "--views auto" in error.value.hint
    require_sides_said(files, "auto")
    require_sides_said(files[:1], "named")


@pytest.mark.parametrize("files", [["a.png"], ["a.png", "c.png"]])
def test_sides_that_are_to_be_found_out_are_not_named(files: list[str]) -> None:
    """Not "two pictures of the back": the second FILE stands for no side yet."""
    sides = (Path("b.png"), None, Path("d.png"))
    with pytest.raises(UsageError, match="--views auto finds the sides out: name none") as error:
        require_sides_said([Path(name) for name in files], "auto", sides)
    assert "--back and --right" in str(error.value)
    require_sides_said([Path("a.png")], "named", sides)
    require_sides_said([Path("a.png"), Path("b.png")], "auto", (None, None, None))


def test_views_are_not_found_out_of_a_mesh(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not for meshes"):
        require_sides_said([tmp_path / "a.glb"], "auto")
