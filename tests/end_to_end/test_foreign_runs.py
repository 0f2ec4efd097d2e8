"""A run directory of somebody else: whatever links lie in it, nothing outside changes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from orchestrator.commands import batch_directory, clean
from orchestrator.errors import KissError, RunRecordError
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system.locks import run_lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")

PROFILE = {
    "profile": "none",
    "nodes": {
        "source": {"stage": "fake.source"},
        "trouble": {"stage": "fake.trouble"},
        "sink": {"stage": "fake.sink"},
    },
}
# Where this program writes or removes a file: in the run, its nodes, its results, the index.
FILES = (
    "run/events.jsonl",
    "run/sink/total.txt",
    "run/sink/attempt-2.log",
    "run/sink/.total.txt.7.part",
    "run/trouble/troubled.npy",
    "run/result/mesh.glb",
    "run/result/preview.png",
)
FOLDERS = ("run/source", "run/trouble", "run/sink", "run/result")


@pytest.fixture(scope="module")
def call(kiss3d_in) -> Callable[..., str]:
    """The command line in a folder, with the exit code that it has to end with; what it says."""

    def say(root: Path, *words: object, code: int = 0) -> str:
        done = kiss3d_in(root, *words)
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done.stderr

    return say


@pytest.fixture(scope="module")
def made(call, tmp_path_factory) -> Path:
    """A folder with outputs/: a run whose last two nodes are to be computed, a batch likewise."""
    root = tmp_path_factory.mktemp("made")
    config = root / "fake.yaml"
    config.write_text(yaml.safe_dump(PROFILE))
    (root / "pictures").mkdir()
    for number in (1, 2):
        (root / "pictures" / f"p{number}.txt").write_text(f"{number}")
    picture = root / "pictures" / "p1.txt"
    call(root, "run", picture, "--config", config, "-o", "outputs/run")
    call(root, "batch", "pictures", "--glob", "*.txt", "--config", config, "-o", "outputs/batch")
    for run in ("run", "batch/p1", "batch/p2"):
        undo(root / "outputs" / run)
        (root / "outputs" / run / "result").mkdir(exist_ok=True)
    return root


def undo(run: Path, *done: str) -> None:
    """As if the last two nodes were not computed, except those that are `done`."""
    record = json.loads((run / "run.json").read_text())
    for name in ("trouble", "sink"):
        record["nodes"][name].update(state="done" if name in done else "pending", key="")
    (run / "run.json").write_text(json.dumps(record))


@pytest.fixture
def root(made, tmp_path) -> Path:
    shutil.copytree(made / "outputs", tmp_path / "outputs")
    shutil.copytree(made / "pictures", tmp_path / "pictures")
    return tmp_path


@pytest.fixture
def outputs(root) -> Path:
    return root / "outputs"


@pytest.fixture
def outside(root) -> Path:
    """Somebody's files, with the names that a run has."""
    folder = root / "outside"
    folder.mkdir()
    for name in {Path(file).name for file in FILES} | {"lock", "summary.json", "trouble-1.log"}:
        (folder / name).write_text(f"mine: {name}\n")
    (folder / "blake2b-00.json").write_text(json.dumps({"run": "gone", "node": "x"}))
    return folder


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def plant(place: Path, target: Path, hard: bool = False) -> None:
    """Put a link where something is, or may come to be."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    if hard:
        os.link(target, place)
    else:
        place.symlink_to(target)


def plant_all(outputs: Path, outside: Path, kind: str) -> None:
    for file in FILES:
        name = Path(file).name
        target = outside / (f"none-{name}" if kind == "dangling" else name)
        plant(outputs / file, target, hard=kind == "hard")
    if kind == "soft":
        plant(outputs / ".cache", outside)
        (outputs / "run" / "run.json").rename(outside / "run.json")
        plant(outputs / "run" / "run.json", outside / "run.json")
    elif kind == "hard":
        plant(outputs / "run" / ".lock", outside / "lock", hard=True)


kinds = pytest.mark.parametrize("kind", ["soft", "dangling", "hard"])


@kinds
def test_resume_replaces_links_that_lie_where_files_have_to_be(kind, call, root, outputs, outside):
    plant_all(outputs, outside, kind)
    before = state_of(outside)
    call(root, "resume", "outputs/run")
    assert state_of(outside) == before
    assert (outputs / "run" / "sink" / "total.txt").read_text() == "2 seed 42"
    assert not (outputs / "run" / "events.jsonl").is_symlink()


@kinds
@pytest.mark.parametrize(
    "words", ["stage sink --run outputs/run", "clean --yes", "clean --yes --intermediate"]
)
def test_no_other_command_changes_what_a_link_leads_to(
    kind, words, kiss3d_in, root, outputs, outside
):
    undo(outputs / "run", "trouble")
    plant_all(outputs, outside, kind)
    plant(outputs / "run" / "trouble" / "troubled.npy", made_array(outputs))
    before = state_of(outside)
    kiss3d_in(root, *words.split())
    assert state_of(outside) == before


def made_array(outputs: Path) -> Path:
    return outputs / "batch" / "p1" / "trouble" / "troubled.npy"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("kind", ["there", "dangling", "relative", "within"])
def test_a_link_that_lies_where_a_folder_has_to_be_is_refused(folder, kind, outputs, outside):
    target = {
        "there": outside,
        "dangling": outside / "none",
        "relative": Path("../../outside"),
        "within": outputs / "run",
    }[kind]
    plant(outputs / folder, target)
    with pytest.raises(RunRecordError, match=f"{folder} is a link"):
        RunDirectory.open(outputs / "run").check_input()


def test_resume_says_which_folder_is_a_link(call, root, outputs, outside):
    plant(outputs / "run" / "result", outside)
    before = state_of(outside)
    told = call(root, "resume", "outputs/run", code=2)
    assert "run/result is a link" in told
    assert "delete the link" in told
    assert state_of(outside) == before


@pytest.mark.parametrize("folder", [*FOLDERS, ".cache", "run/sink/inline"])
@pytest.mark.parametrize("intermediate", [False, True])
def test_clean_removes_nothing_behind_a_link_to_a_folder(folder, intermediate, outputs, outside):
    plant(outputs / folder, outside)
    before = state_of(outside)
    removed = clean.remove(clean.choose(outputs, lambda run: True, intermediate))
    assert state_of(outside) == before
    if folder != ".cache":
        assert (outputs / folder).is_symlink()
        left = {item.path: item.foreign for item in removed.left}
        assert intermediate or folder.removeprefix("run/") in left[outputs / "run"]


@pytest.mark.parametrize("target", ["lock", "none"])
def test_a_lock_that_is_a_link_is_not_taken(target, outputs, outside):
    plant(outputs / "run" / ".lock", outside / target)
    before = state_of(outside)
    with pytest.raises(KissError, match="cannot write to"), run_lock(outputs / "run"):
        pass
    assert state_of(outside) == before


@pytest.mark.parametrize("where", ["sink", "sink/inline", "sink/inline/total.txt"])
def test_a_stage_in_this_process_writes_nothing_outside(where, call, root, outputs, outside):
    undo(outputs / "run", "trouble")
    is_file = where.endswith(".txt")
    (outputs / "run" / where).parent.mkdir(parents=True, exist_ok=True)
    plant(outputs / "run" / where, outside / "total.txt" if is_file else outside)
    before = state_of(outside)
    call(root, "stage", "sink", "--run", "outputs/run", "--inline", code=0 if is_file else 2)
    assert state_of(outside) == before


@pytest.mark.parametrize("name", ["../../stolen", "/tmp/stolen", "a/b", "..", ".", ""])
def test_an_artifacts_name_cannot_lead_out(name, outputs):
    """From its name comes the preview's, which is copied along when another run takes it over."""
    file = outputs / "run" / "run.json"
    record = json.loads(file.read_text())
    artifacts = record["nodes"]["source"]["artifacts"]
    artifacts[name] = artifacts.pop("numbers")
    file.write_text(json.dumps(record))
    with pytest.raises(RunRecordError, match="is not a plain file name"):
        RunDirectory.open(outputs / "run")


@pytest.mark.parametrize("name", ["../stolen", "/tmp/stolen", "..", "a/b", ""])
def test_a_batchs_names_cannot_lead_out(name, outputs):
    file = outputs / "batch" / "batch.json"
    data = json.loads(file.read_text())
    data["jobs"][name] = data["jobs"].pop("p1")
    file.write_text(json.dumps(data))
    with pytest.raises(RunRecordError, match="is not a plain file name"):
        batch_directory.load(outputs / "batch")


@pytest.mark.parametrize("target", ["empty", "run", "none"])
def test_a_batchs_run_that_is_a_link_fails_alone(target, call, root, outputs):
    elsewhere = root / "elsewhere"
    if target == "run":
        (outputs / "batch" / "p1").rename(elsewhere)
    elif target == "empty":
        elsewhere.mkdir()
    plant(outputs / "batch" / "p1", elsewhere)
    before = state_of(elsewhere)
    assert "is a link" in call(root, "resume", "outputs/batch", code=1)
    assert state_of(elsewhere) == before
    assert elsewhere.exists() == (target != "none")
    assert (outputs / "batch" / "p2" / "sink" / "total.txt").read_text() == "3 seed 42"


@pytest.mark.parametrize("name", ["logs", "summary.json"])
def test_a_batchs_own_files_are_not_written_through_links(name, call, root, outputs, outside):
    plant(outputs / "batch" / name, outside if name == "logs" else outside / name)
    before = state_of(outside)
    call(root, "resume", "outputs/batch", code=2 if name == "logs" else 0)
    clean.remove(clean.choose(outputs, lambda run: True, False))
    assert state_of(outside) == before
