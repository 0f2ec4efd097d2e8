"""What a batch is made of: folders of pictures or meshes, and lists of words."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.commands.batch_directory import job_names
from orchestrator.commands.batch_inputs import BatchInputs, find_inputs
from orchestrator.errors import InputFileError, UsageError


def found(source: Path, profile: str | None = None, glob: str | None = None) -> BatchInputs:
    return find_inputs(source, glob, False, profile)


def listed(inputs: BatchInputs) -> dict[str, tuple[str, int | None]]:
    return {n: (s.text, s.seed) for n, s in job_names(inputs.listed).items()}


def test_no_job_takes_a_name_of_the_batchs_own_files(tmp_path):
    taken = ("batch.json", "summary.json", "Summary.csv", "events.jsonl", "index.html", "logs")
    for name in taken:
        (tmp_path / f"{name}.png").write_bytes(b"")
    assert set(job_names(found(tmp_path).listed)) == {f"{name}-2" for name in taken}


def test_each_line_of_a_text_file_is_a_job(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red vase\n\n# not this\n  a blue   cup \na red vase\n", encoding="utf-8")
    inputs = found(file)
    assert (inputs.name, inputs.start, inputs.skipped) == ("prompts", "text", ())
    assert inputs.told == f"{file} is read as a list, one a line: 3 descriptions"
    assert listed(inputs) == {
        "a_red_vase": ("a red vase", None),
        "a_blue_cup": ("a blue cup", None),
        "a_red_vase-2": ("a red vase", None),
    }


def test_a_table_has_names_and_seeds(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text('\ufeffText,Seed,name\n"a vase, red",7,first\na cup,,\n', encoding="utf-8")
    assert listed(found(file)) == {"first": ("a vase, red", 7), "a_cup": ("a cup", None)}


def test_a_bad_row_costs_no_other(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text(f"text,seed\n,1\na cup,-1\na mug,x\n{'y' * 5000},\na vase,0\n")
    inputs = found(file)
    assert listed(inputs) == {"a_vase": ("a vase", 0)}
    reasons = {str(one.path): one.reason for one in inputs.skipped}
    assert list(reasons) == ["line 2", "line 3", "line 4", "line 5"]
    assert reasons["line 2"] == "the text is empty"
    assert "is no seed: that is a whole number" in reasons["line 3"]
    assert "5000 characters" in reasons["line 5"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "no descriptions"),
        ("a.txt", b"# only this\n", "no descriptions"),
        ("a.txt", b"\xff\xfe\x00", "no UTF-8"),
        ("a.csv", b"words\na cup\n", "no column text"),
        ("a.csv", b"", "no column text"),
        ("a.csv", b"text,picture\na cup,x\n", 'a column "picture"'),
        ("a.csv", b"text\n\n", "no rows"),
        ("a.txt", b"gone.png\n", r"nothing in .* can be used: line 1 \(gone.png does not exist"),
    ],
)
def test_lists_with_nothing_in_them(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        found(tmp_path / name)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(InputFileError, match="does not exist"):
        found(tmp_path / "absent.txt")


def test_a_names_path_stays_in_the_batch(tmp_path):
    (tmp_path / "list.csv").write_text("name,text\n../../x,a cup\n")
    assert list(listed(found(tmp_path / "list.csv"))) == ["x"]


def test_a_folder_of_meshes_alone_is_a_batch_of_meshes(tmp_path):
    (tmp_path / "a.glb").write_bytes(b"glTF" + bytes(8))
    (tmp_path / "b.stl").write_bytes(b"solid b")
    (tmp_path / "notes.txt").write_text("no mesh")
    inputs = found(tmp_path)
    assert inputs.start == "mesh"
    assert [one.names[0] for one in inputs.listed] == ["a", "b"]
    assert [str(one.path) for one in inputs.skipped] == ["notes.txt"]


def test_of_a_mixed_folder_the_pictures_are_taken_unless_a_glob_says_otherwise(tmp_path):
    (tmp_path / "a.glb").write_bytes(b"glTF" + bytes(8))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert [one.names[0] for one in found(tmp_path).listed] == ["b"]
    assert found(tmp_path, glob="*.glb").start == "mesh"
    with pytest.raises(UsageError, match="both pictures and meshes"):
        found(tmp_path, glob="*")


def test_a_folder_of_neither_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match="no pictures in"):
        found(tmp_path)


def test_lines_that_are_files_make_a_list_of_those(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "mug.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "list.txt").write_text("p/mug.png\nabsent.jpg\n")
    inputs = found(tmp_path / "list.txt")
    assert (inputs.start, [one.names for one in inputs.listed]) == ("picture", [("mug",)])
    assert [one.reason for one in inputs.skipped] == ["absent.jpg does not exist"]
    (tmp_path / "mixed.txt").write_text("p/mug.png\na red vase\n")
    with pytest.raises(UsageError, match="lists pictures and descriptions"):
        found(tmp_path / "mixed.txt")


def test_textures_of_the_meshes_in_a_folder_are_no_pictures_to_work_on(tmp_path):
    (tmp_path / "box.obj").write_text("mtllib box.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "box.mtl").write_text("newmtl a\nmap_Kd maps/wood.png\n")
    (tmp_path / "wood.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert found(tmp_path).start == "mesh"
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    inputs = found(tmp_path)
    assert [one.names[0] for one in inputs.listed] == ["photo"]
    reasons = {str(one.path): one.reason for one in inputs.skipped}
    assert reasons["wood.png"] == "a mesh's texture"
