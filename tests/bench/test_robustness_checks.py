"""What soak and fuzz look for, they find: their checks, held to faults that are made on purpose."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

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
