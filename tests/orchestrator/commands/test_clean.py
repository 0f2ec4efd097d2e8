"""What may go: runs that are wanted gone, what belongs to them, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devtools.fakes.parts import finish_node, make_run, make_stage
from orchestrator.commands.clean import choose, remove
from orchestrator.record.run_directory import MANIFEST, RunDirectory
from orchestrator.system.locks import BATCH_FILE


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of a batch, and one by itself; an index that knows one of each."""
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    root = tmp_path / "outputs"
    for name in ("batch/one", "batch/two", "alone"):
        run = make_run(root / name)
        finish_node(run, "begin", {"a": b"a long text"}, key="blake2b:0")
        run.manifest.nodes["begin"].stage = "begin"
        run.save()
    (root / "batch" / BATCH_FILE).write_text("{}")
    (root / ".cache").mkdir()
    for number, name in enumerate(("alone", "batch/one")):
        entry = {"run": str(root / name), "node": "begin"}
        (root / ".cache" / f"blake2b-{number}.json").write_text(json.dumps(entry))
    return root


def everything(run: RunDirectory) -> bool:
    return True


def only(*names: str):
    return lambda run: run.path.name in names


def names(paths) -> list[str]:
    return sorted(path.name for path in paths)


def test_a_batch_goes_with_the_last_of_its_runs_and_not_before(root):
    part = choose(root, only("one", "alone"), intermediate=False)
    assert (names(run.path for run in part.runs), part.batches) == (["alone", "one"], ())
    whole = choose(root, only("one", "two"), intermediate=False)
    assert whole.batches == (root / "batch",)


def test_entries_of_runs_that_stay_stay(root):
    chosen = choose(root, only("alone"), intermediate=False)
    assert names(chosen.entries) == ["blake2b-0.json"]
    removed = remove(chosen)
    assert removed.entries == 1
    assert names((root / ".cache").iterdir()) == ["blake2b-1.json"]


def test_choosing_removes_nothing_and_nothing_chosen_is_false(root):
    before = sorted(root.rglob("*"))
    assert choose(root, everything, intermediate=False)
    assert not choose(root, only("nobody"), intermediate=False)
    assert sorted(root.rglob("*")) == before


def test_all_that_is_ours_goes_with_its_folders(root):
    chosen = choose(root, everything, intermediate=False)
    size = chosen.size
    removed = remove(chosen)
    assert removed.left == ()
    assert removed.freed >= size > 0
    assert list(root.iterdir()) == []


def test_intermediate_leaves_runs_that_can_be_resumed(root):
    removed = remove(choose(root, everything, intermediate=True))
    assert len(removed.runs) == 3
    record = RunDirectory.open(root / "alone").manifest.nodes["begin"]
    assert (record.state, record.artifacts) == ("pending", {})
    assert (root / "batch" / BATCH_FILE).is_file()
    assert not choose(root, everything, intermediate=True), "there is nothing more to remove"


def test_what_is_in_use_and_what_is_foreign_is_left_and_told(root):
    (root / "alone" / "notes.txt").write_text("mine")
    with RunDirectory.open(root / "batch" / "two").locked():
        removed = remove(choose(root, everything, intermediate=False))
    left = {item.path.name: item for item in removed.left}
    assert left["alone"].foreign == ("notes.txt",)
    assert left["two"].in_use
    assert names((root / "alone").iterdir()) == ["notes.txt"]
    assert (root / "batch" / "two" / MANIFEST).is_file()
    assert (root / "batch" / BATCH_FILE).is_file(), "the batch can still be resumed"


def test_a_record_that_cannot_be_read_keeps_its_run_and_its_batch(root):
    (root / "batch" / "two" / MANIFEST).write_text("{")
    chosen = choose(root, everything, intermediate=False)
    assert [one.path.name for one in chosen.unreadable] == ["two"]
    assert chosen.batches == ()
    remove(chosen)
    assert (root / "batch" / "two" / "begin" / "a.txt").is_file()


def test_a_shared_file_gives_its_space_back_with_its_last_name(root):
    for name in ("batch/one", "batch/two"):
        file = root / name / "begin" / "a.txt"
        file.unlink()
        file.hardlink_to(root / "alone" / "begin" / "a.txt")
    size = len(b"a long text")
    assert choose(root, only("one"), intermediate=True).size == 0
    chosen = choose(root, everything, intermediate=True)
    assert chosen.size == size, "one file under three names"
    assert remove(choose(root, only("one"), intermediate=True)).freed == 0
    assert (root / "alone" / "begin" / "a.txt").read_bytes() == b"a long text"
    assert remove(choose(root, everything, intermediate=True)).freed == size
