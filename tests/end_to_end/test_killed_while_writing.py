"""A run or batch may die, by a signal or with the machine, at any change that it makes to the disk:
`resume` finishes it, or the same command does where nothing had begun."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from devtools.fakes.crash import Command, Parent
from devtools.fakes.tools import leftovers
from orchestrator.system.atomic_files import digest_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork, /proc")
PROFILE = {
    "profile": "none",
    "nodes": {
        "source": {"stage": "fake.source"},
        "trouble": {"stage": "fake.trouble"},
        "sink": {"stage": "fake.sink"},
        "cast": {"stage": "fake.cast"},
    },
    "runtime": {"heartbeat_interval": 0.1, "stop_grace": 0.5},
}
RUN = ("run", "in/a.txt", "--config", "c.yaml", "--output", "deep/out")
BATCH = ("batch", "in", "--glob", "*.txt", "--config", "c.yaml", "--output", "deep/out")
TOTALS = {"a": "9 seed 42", "b": "11 seed 42"}
PARTS = 8
ENOUGH = 1000
"""More changes than any command here makes."""


@dataclass
class Workshop:
    """A fresh folder for each try, and the process that the commands are forked from."""

    parent: Parent
    base: Path
    finished: set[str] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def out(self) -> Path:
        return self.root / "deep" / "out"

    @property
    def survivors(self) -> Path:
        return self.base / "survivors"

    def furnish(self) -> None:
        for folder in (self.root, self.survivors):
            shutil.rmtree(folder, ignore_errors=True)
        (self.root / "in").mkdir(parents=True)
        (self.root / "in" / "a.txt").write_text("1 2 3")
        (self.root / "in" / "b.txt").write_text("4 5")
        (self.root / "c.yaml").write_text(yaml.safe_dump(PROFILE))

    def command(self, arguments: tuple[str, ...]) -> Command:
        return Command([*arguments], str(self.root))

    def cut_the_power(self) -> None:
        shutil.rmtree(self.root)
        self.survivors.rename(self.root)

    def finish(self, arguments: tuple[str, ...]) -> None:
        """Go on as a user would, unless the folder looks like one that was finished before."""
        if (state := self._state()) in self.finished:
            return
        begun = (self.out / "run.json").is_file() or (self.out / "batch.json").is_file()
        done = self.parent.run(self.command(("resume", "deep/out")))
        if not begun:
            assert done.code == 2, done.text
            done = self.parent.run(self.command(arguments))
        assert done.code == 0, done.text
        runs = {"a": self.out} if arguments == RUN else {n: self.out / n for n in TOTALS}
        for name, run in runs.items():
            record = json.loads((run / "run.json").read_text())
            assert record["state"] == "done"
            if record["kept"] == "all":
                assert (run / "sink" / "total.txt").read_text() == TOTALS[name]
            else:
                assert not list(run.rglob("*.npy")), "what was not to be kept has gone"
            assert whole_mesh(run)
        assert leftovers(self.out) == []
        self.finished.add(state)

    def _state(self) -> str:
        """All names and contents without what differs from run to run: numbers."""
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        listed = [(str(path.relative_to(self.root)), path.read_bytes()) for path in files]
        return re.sub(r"[0-9a-f]{8,}|\d+", "#", repr(listed))


def whole_mesh(run: Path) -> bool:
    """By its digest in the record: a run of a batch keeps its result alone."""
    mesh = run / "result" / "mesh.glb"
    record = json.loads((run / "run.json").read_text())["nodes"]["cast"]
    return mesh.is_file() and digest_file(mesh) == record["artifacts"]["glb"][0]["digest"]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    (tmp_path / "tmp").mkdir()
    parent = Parent(tmp_path / "tmp")
    try:
        yield Workshop(parent, tmp_path)
    finally:
        parent.close()


def die_and_finish(workshop: Workshop, arguments: tuple[str, ...], at: int, of: str = "") -> bool:
    """One try, with the disk as it is and as a power cut leaves it; whether the command died."""
    workshop.furnish()
    survivors = str(workshop.survivors)
    command = replace(workshop.command(arguments), at=at, of=of, survivors=survivors)
    ended = workshop.parent.run(command)
    assert ended.code in (0, -signal.SIGKILL), ended.text
    workshop.finish(arguments)
    workshop.cut_the_power()
    for record in workshop.out.rglob("run.json"):
        if json.loads(record.read_text())["state"] == "done":
            assert whole_mesh(record.parent), "what is called done is safe on disk"
    workshop.finish(arguments)
    return ended.code != 0


@pytest.mark.parametrize(
    ("arguments", "moments"),
    [
        (RUN, [(1, "run.json"), (2, "run.json"), (1, "input."), (3, "troubled")]),
        (BATCH, [(2, "batch.json"), (3, "troubled")]),
    ],
    ids=["run", "batch"],
)
def test_what_dies_at_a_change_to_the_disk_is_finished_later(workshop, arguments, moments):
    """A sample: an empty folder, a half-written record, one without its picture, half a node."""
    for at, of in moments:
        assert die_and_finish(workshop, arguments, at, of), of


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arguments", [RUN, BATCH], ids=["run", "batch"])
@pytest.mark.parametrize("part", range(PARTS))
def test_what_dies_at_any_change_to_the_disk_is_finished_later(workshop, arguments, part):
    """Every change there is, shared out over the parts: a run makes 120 of them, a batch 210."""
    for at in range(part + 1, ENOUGH, PARTS):
        if not die_and_finish(workshop, arguments, at):
            break
    assert 50 < at < ENOUGH - PARTS, "the changes are counted"


@pytest.mark.parametrize("arguments", [RUN, BATCH], ids=["run", "batch"])
def test_what_is_told_to_stop_while_it_is_being_made_is_finished_later(workshop, arguments):
    workshop.furnish()
    command = replace(workshop.command(arguments), at=1, of="input.", how=signal.SIGTERM)
    assert workshop.parent.run(command).code == 128 + signal.SIGTERM
    workshop.finish(arguments)


@pytest.mark.parametrize("arguments", [RUN, BATCH], ids=["run", "batch"])
def test_a_power_cut_after_the_end_takes_nothing_away(workshop, arguments):
    workshop.furnish()
    command = replace(workshop.command(arguments), survivors=str(workshop.survivors))
    ended = workshop.parent.run(command)
    assert ended.code == 0, ended.text
    workshop.cut_the_power()
    records = [*workshop.out.rglob("run.json")]
    assert len(records) == (1 if arguments == RUN else 2)
    for record in records:
        assert json.loads(record.read_text())["state"] == "done"
        assert whole_mesh(record.parent)
    if arguments == BATCH:
        assert json.loads((workshop.out / "summary.json").read_text())["good"] == 2


def test_a_copy_of_the_picture_without_a_record_is_taken_for_a_beginning(workshop):
    workshop.furnish()
    workshop.out.mkdir(parents=True)
    shutil.copy(workshop.root / "in" / "a.txt", workshop.out / "input.img")
    told = workshop.parent.run(workshop.command(("resume", "deep/out")))
    assert told.code == 2
    assert "kiss3d-orchestrate run deep/out/input.img --output deep/out" in told.text
    workshop.finish(RUN)


@pytest.mark.parametrize("name", ["input.img", "notes.txt", ".notes.part", "run.json.bak"])
def test_what_is_not_ours_is_neither_taken_for_a_beginning_nor_touched(workshop, name):
    workshop.furnish()
    workshop.out.mkdir(parents=True)
    (workshop.out / name).write_text("mine")
    for arguments in (RUN, BATCH):
        told = workshop.parent.run(workshop.command(arguments))
        assert told.code == 2, told.text
        assert "is not empty" in told.text
    assert [path.name for path in workshop.out.iterdir()] == [name]
    assert (workshop.out / name).read_text() == "mine"


def test_a_run_without_its_picture_says_so_when_that_is_gone_too(workshop):
    workshop.furnish()
    died = workshop.parent.run(replace(workshop.command(RUN), at=1, of="input."))
    assert died.code == -signal.SIGKILL
    assert (workshop.out / "run.json").is_file()
    assert not (workshop.out / "input.img").exists()
    (workshop.root / "in" / "a.txt").unlink()
    told = workshop.parent.run(workshop.command(("resume", "deep/out")))
    assert told.code == 2
    assert "input.img cannot be read" in told.text
    (workshop.root / "in" / "a.txt").write_text("6")
    again = workshop.parent.run(workshop.command(RUN))
    assert again.code == 0, again.text
    assert (workshop.out / "sink" / "total.txt").read_text() == "7 seed 42"
