"""What soak and fuzz look for, they find: their checks, held to faults that are made on purpose."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they fork, and read /proc")


@pytest.mark.parametrize(
    ("code", "text", "cpu", "memory", "found"),
    [
        (0, "fine\n", 0.1, 1 << 20, ""),
        (2, "error: no\n  -> do\n", 0.1, 1 << 20, ""),
        (None, "", 0.1, 1 << 20, "hang"),
        (-11, "", 0.1, 1 << 20, "crash: exit code -11"),
        (1, "Traceback (most recent call last)", 0.1, 1 << 20, "traceback"),
        (1, "error: unexpected: KeyError: 1", 0.1, 1 << 20, "traceback"),
        (2, "error: \x1b[2J", 0.1, 1 << 20, "control character"),
        (0, "", 60.0, 1 << 20, "60.0 s of CPU time"),
        (0, "", 0.1, 1 << 30, "1024 MiB"),
    ],
)
def test_the_end_of_a_command_is_judged(code, text, cpu, memory, found):
    from bench.robustness.fuzz_checks import wrong_end

    assert wrong_end(code, text, cpu, memory).startswith(found)
    assert bool(wrong_end(code, text, cpu, memory)) == bool(found)


def test_what_a_command_touches_is_seen(tmp_path):
    from bench.robustness.fuzz_checks import changes, snapshot

    for folder in ("outputs/run", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("outputs/run/run.json", "outputs/run/mine.txt", "outside/kept.txt"):
        (tmp_path / name).write_text("x")
    before = snapshot(tmp_path)
    (tmp_path / "outputs/run/run.json").write_text("yy")
    assert changes(before, snapshot(tmp_path), {"outputs"}) == ""
    assert changes(before, snapshot(tmp_path), set()) == "touched: outputs/run/run.json"
    (tmp_path / "outputs/run/mine.txt").unlink()
    (tmp_path / "outside/kept.txt").write_text("yy")
    seen = changes(before, snapshot(tmp_path), {"outputs"})
    assert seen == "touched: outputs/run/mine.txt, outside/kept.txt"


@pytest.mark.parametrize("act", ["open", "mkdir", "rename", "remove", "pickle"])
def test_a_change_outside_of_the_folder_is_stopped_before_it_happens(act, tmp_path):
    from bench.robustness.fuzz_checks import watch

    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (inside / "link").symlink_to(outside)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.chdir(inside)
        watch(inside)
        try:
            (inside / "mine").write_text("allowed")
            _act(act, inside)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 97
    assert (inside / "mine").read_text() == "allowed"
    assert [path.name for path in outside.iterdir()] == ["kept"]


def _act(act: str, inside: Path) -> None:
    if act == "open":
        (inside / "link" / "new").write_text("x")
    elif act == "mkdir":
        os.mkdir("../out/new")
    elif act == "rename":
        os.rename("../out/kept", "taken")
    elif act == "remove":
        folder = os.open(inside / "link", os.O_RDONLY)
        os.remove("kept", dir_fd=folder)
    else:
        import pickle

        pickle.loads(b"cos\nsystem\n.")  # noqa: S301 (it is stopped)


def test_a_case_depends_on_its_seed_alone():
    from bench.robustness import mutations
    from bench.robustness.fuzz_pictures import case

    files = (b"\x89PNG\r\n\x1a\n" + b"x" * 60, b"\xff\xd8\xff\xe0" + b"y" * 60)
    assert case(1, 5, files) == case(1, 5, files)
    made = {case(1, number, files) for number in range(100)}
    assert len(made) > 80, "cases differ"
    data = {"a": [1, {"b": "c"}], "d": None}
    changed = [mutations.document(random.Random(number), data) for number in range(50)]
    assert data == {"a": [1, {"b": "c"}], "d": None}
    assert sum(one != data for one in changed) > 40


def made_by(root: Path, shard: str) -> Path:
    """One finished job of a soaked batch."""
    run = root / shard / "p1"
    (run / "sink").mkdir(parents=True)
    (run / "sink" / "total.txt").write_text("3")
    attempts = [{"outcome": "done", "pid": 5}]
    nodes = {"sink": {"state": "done", "attempts": attempts}}
    (run / "run.json").write_text(json.dumps({"state": "done", "nodes": nodes}))
    return run


@pytest.mark.parametrize(
    "fault", ["none", "lost", "corrupt", "lacking", "redone", "lock", "folder"]
)
def test_what_workers_left_is_judged(fault, tmp_path):
    from bench.robustness.soak_workers import MANY, WHOLE, Finished, Wrong, check

    left = [tmp_path / "private"] if fault == "folder" else []
    place = SimpleNamespace(root=tmp_path, private_folders=lambda: left)
    made_by(place.root / WHOLE, ".")
    run = made_by(place.root / MANY, "shard-0-of-1")
    finished, wrong = Finished(place.root / MANY), Wrong()
    finished.look()
    if fault == "lost":
        (run / "run.json").write_text(json.dumps({"state": "running", "nodes": {}}))
    elif fault == "corrupt":
        (run / "sink" / "total.txt").write_text("4")
    elif fault == "lacking":
        (run / "sink" / "total.txt").unlink()
        (run / "sink" / "other.txt").write_text("3")
    elif fault == "redone":
        (run / "run.json").write_text((run / "run.json").read_text().replace("5", "6"))
    elif fault == "lock":
        (run / ".lock").touch()
    check(place, wrong)
    wrong.redone = finished.redone()
    found = (wrong.lost, wrong.corrupt, wrong.redone, wrong.locks, wrong.folders)
    assert (
        found
        == {
            "none": (0, 0, 0, 0, 0),
            "lost": (1, 0, 1, 0, 0),
            "corrupt": (0, 1, 0, 0, 0),
            "lacking": (0, 1, 0, 0, 0),
            "redone": (0, 0, 1, 0, 0),
            "lock": (0, 0, 0, 1, 0),
            "folder": (0, 0, 0, 0, 1),
        }[fault]
    )
    assert bool(wrong) == (fault != "none")
