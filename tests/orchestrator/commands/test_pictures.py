"""Which files a batch takes, and that nothing else is left out in silence."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.commands.pictures import Gathered, Skipped, gather, listed, require_picture
from orchestrator.errors import InputFileError, UsageError


def encoded(file_format: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, file_format)
    return stream.getvalue()


PNG = encoded("PNG")


def put(path: Path, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def taken(folder: Path, found: Gathered) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found.pictures]


def reasons(found: Gathered) -> dict[str, str]:
    return {one.path.as_posix(): one.reason for one in found.skipped}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.avif", b"\0\0\0\x1cftypavif\0\0\0\0"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("a.jfif", encoded("JPEG")),
        ("a.JPE", encoded("JPEG")),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("no-suffix", PNG),
        ("download.php", encoded("GIF")),
        ("a.txt", encoded("TIFF")),
    ],
)
def test_a_picture_is_taken_whatever_its_name(tmp_path, name, content):
    put(tmp_path / name, content)
    found = gather(tmp_path, None, recursive=False)
    assert taken(tmp_path, found) == [name]
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"remember", "not a picture"),
        ("empty", b"", "empty"),
        ("paper.pdf", b"%PDF-1.7", "a PDF document"),
        ("page", b"<!doctype html>", "a web page"),
        ("mesh.glb", b"glTF\2\0\0\0", "a 3D model"),
        (".hidden.png", PNG, "hidden"),
        ("._a.png", b"\0\x05\x16\7", "hidden"),
    ],
)
def test_what_is_no_picture_is_told_with_the_reason(tmp_path, name, content, reason):
    put(tmp_path / "a.png")
    put(tmp_path / name, content)
    found = gather(tmp_path, None, recursive=False)
    assert taken(tmp_path, found) == ["a.png"]
    assert reasons(found) == {name: reason}


def test_what_only_claims_to_be_a_picture_is_taken_so_that_it_fails_with_a_reason(tmp_path):
    put(tmp_path / "a.png", b"%PDF-1.7")
    assert taken(tmp_path, gather(tmp_path, None, recursive=False)) == ["a.png"]


def test_a_file_that_is_known_to_be_something_else_is_refused_by_name():
    with pytest.raises(InputFileError, match=r"a\.png is a Git LFS pointer") as refused:
        require_picture(Path("a.png"), b"version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in refused.value.hint
    for content in (PNG, b"1 2 3", b""):
        require_picture(Path("a.png"), content)


@pytest.mark.parametrize("glob", [None, "*.png", "**/*.png"])
def test_what_this_program_wrote_is_no_input(tmp_path, glob):
    put(tmp_path / "a.png")
    put(tmp_path / "deep" / "b.png")
    for path in (
        "outputs/a-1/input.png",
        "deep/outputs/c.png",
        "run/run.json",
        "run/result/preview.png",
        "lost/events.jsonl",
        "lost/input.png",
        "some/batch/batch.json",
        "some/batch/a/input.png",
        ".cache/d.png",
        "deep/.e.png",
    ):
        put(tmp_path / path)
    found = gather(tmp_path, glob, recursive=True)
    assert taken(tmp_path, found) == ["a.png", "deep/b.png"]
    assert reasons(found) == {
        "outputs": "where results are written",
        "deep/outputs": "where results are written",
        "run": "the directory of a run",
        "lost": "the directory of a run",
        "some/batch": "the directory of a batch",
        ".cache": "hidden",
        "deep/.e.png": "hidden",
    }


def test_without_recursive_only_the_folder_itself_counts(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "outputs" / "b.png")
    assert gather(tmp_path, None, recursive=False) == Gathered((tmp_path / "a.png",), ())


def test_a_folder_that_the_user_names_is_taken_whatever_its_name(tmp_path):
    folder = tmp_path / ".mine" / "outputs"
    put(folder / "a.png")
    assert taken(folder, gather(folder, None, recursive=True)) == ["a.png"]


@pytest.mark.parametrize(("name", "kind"), [("run.json", "a run"), ("batch.json", "a batch")])
def test_the_directory_of_a_run_is_no_folder_of_pictures(tmp_path, name, kind):
    put(tmp_path / name)
    put(tmp_path / "input.png")
    with pytest.raises(InputFileError, match=f"is the directory of {kind}"):
        gather(tmp_path, None, recursive=True)


def test_a_glob_takes_what_it_names_and_tells_of_nothing_else(tmp_path):
    for name in ("a.txt", "b.png", "sub/c.txt", "outputs/d.png"):
        put(tmp_path / name, b"1 2 3")
    found = gather(tmp_path, "*.txt", recursive=True)
    assert taken(tmp_path, found) == ["a.txt", "sub/c.txt"]
    assert found.skipped == ()
    assert taken(tmp_path, gather(tmp_path, "sub/*.txt", recursive=False)) == ["sub/c.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and symbolic links")
def test_pipes_and_links_are_told_and_never_opened(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "deep" / "b.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "again").symlink_to("deep")
    (tmp_path / "linked").symlink_to("a.png")
    found = gather(tmp_path, None, recursive=True)
    assert taken(tmp_path, found) == ["a.png", "linked", "deep/b.png"]
    assert reasons(found) == {
        "pipe.png": "no regular file",
        "gone.png": "a link to nothing",
        "again": "a link to a folder",
    }


def test_what_cannot_be_read_is_told(tmp_path, monkeypatch):
    put(tmp_path / "a.png")
    put(tmp_path / "shut" / "b.png")
    put(tmp_path / "secret")
    scandir, read = os.scandir, Path.open

    def refuse(path, *arguments, **options):
        if Path(path).name in ("shut", "secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return (scandir if arguments == () else read)(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    found = gather(tmp_path, None, recursive=True)
    assert taken(tmp_path, found) == ["a.png"]
    denied = "cannot be read: Permission denied"
    assert reasons(found) == {"secret": denied, "shut": denied}


def test_a_folder_that_cannot_be_read_itself_is_told_as_such(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError) as caught:
        gather(tmp_path, None, recursive=False)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path} cannot be read: Permission denied")
    assert told.endswith("check its access rights")


def test_an_empty_choice_names_what_was_left_out(tmp_path):
    put(tmp_path / "notes.txt", b"remember")
    with pytest.raises(UsageError, match=r"no pictures .*skipped: notes\.txt \(not a picture\)"):
        gather(tmp_path, None, recursive=False)


def test_a_list_of_what_was_skipped_is_bounded_and_counted():
    many = [Skipped(Path(f".{number}"), "hidden") for number in range(500)]
    told = listed([Skipped(Path("a"), "empty"), *many])
    assert told == "a (empty); .0, .1, .2 and 497 more (hidden)"


def test_subfolders_are_named_in_the_record_and_counted_for_people(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "sub" / "b.png")
    found = gather(tmp_path, None, recursive=False)
    assert taken(tmp_path, found) == ["a.png"]
    assert reasons(found) == {"sub": "a subfolder: --recursive takes it"}
    assert listed(found.skipped) == "a subfolder: --recursive takes it"
    put(tmp_path / "more" / "c.png")
    two = gather(tmp_path, None, recursive=False)
    assert listed(two.skipped) == "2 subfolders, --recursive takes them"
    assert gather(tmp_path, None, recursive=True).skipped == ()


def test_a_text_file_is_no_picture_where_pictures_are_cut_out(tmp_path):
    from orchestrator.commands.given import read_given
    from orchestrator.commands.subject import subject_of
    from orchestrator.planning.options import Options
    from orchestrator.planning.request import prepare

    (tmp_path / "README.md").write_text("# Words\n", encoding="utf-8")
    (tmp_path / "unknown").write_bytes(b"\x01\x02 letters")
    prepared = prepare(Options(profile="sketch"))
    with pytest.raises(InputFileError, match="it is a text file"):
        read_given(prepared, subject_of([tmp_path / "README.md"]))
    assert read_given(prepared, subject_of([tmp_path / "unknown"])).contents
