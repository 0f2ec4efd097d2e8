"""Records and files that no run has made so are told in a sentence, never as a traceback."""

from __future__ import annotations

import json
import shutil

import pytest

from orchestrator.cli import main

RECORDS = {
    "NaN": ("created", float("nan")),
    "infinite": ("wall_seconds", float("inf")),
    "no such year": ("created", 1e300),
    "before there were clocks": ("created", -1e300),
    "huge": ("seed", 10**400),
    "null": ("nodes", None),
    "list": ("settings", []),
    "half a pair": ("profile", "\ud800"),
    "nodes": ("settings", {"nodes": None}),
}


@pytest.fixture(scope="module")
def finished(kiss3d_in, tmp_path_factory):
    """A run of the fake stages; tests change copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "in.txt").write_text("1 2 3")
    stages = {name: {"stage": f"fake.{name}"} for name in ("source", "trouble", "sink")}
    (folder / "fake.json").write_text(json.dumps({"profile": "none", "nodes": stages}))
    done = kiss3d_in(folder, "run", "in.txt", "--config", "fake.json", "--output", "out")
    assert done.returncode == 0, done.stderr
    return folder / "out"


def told(capsys, *arguments) -> tuple[int, str]:
    """A command in this process: exit code, and all that it printed."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    shown = capsys.readouterr()
    return end.value.code, shown.out + shown.err


@pytest.mark.parametrize("case", RECORDS)
def test_an_odd_record_is_no_traceback(case, finished, tmp_path, capsys):
    key, value = RECORDS[case]
    record = {**json.loads((finished / "run.json").read_text()), key: value}
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for ask in (("runs", "show", out), ("runs", "list", tmp_path), ("stage", "sink", "--run", out)):
        (out / "run.json").write_text(json.dumps(record))
        code, shown = told(capsys, *ask)
        assert code in (0, 2), shown
        assert "Traceback" not in shown
        assert "unexpected:" not in shown


ODD_FILES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "no UTF-8": b'{"a": "\xff"}',
    "deep": b"[" * 100_000,
    "twice": b"nodes: {}\nnodes: {}",
    "numbers as keys": b"{1: 2}",
    "a date": b"seed: 2026-01-01",
    "nodes of nothing": b"{profile: none, nodes: {a: }}",
    "too long": b"#" * (1 << 20),
}


@pytest.mark.parametrize("case", ODD_FILES)
def test_an_odd_file_is_no_traceback(case, finished, tmp_path, capsys, picture):
    """As a config, a record and a batch."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for name in ("config.yaml", "out/run.json", "batch.json"):
        (tmp_path / name).write_bytes(ODD_FILES[case])
    for ask in (
        ("plan", picture, "--config", tmp_path / "config.yaml"),
        ("runs", "show", out),
        ("runs", "list", out),
        ("resume", out),
        ("resume", tmp_path),
    ):
        code, shown = told(capsys, *ask)
        assert code in (0, 2), shown
        assert "Traceback" not in shown
        assert "unexpected:" not in shown


BATCHES = {
    "jobs": [],
    "a job": {"a": 3},
    "no file": {"a": {"files": {"input_image": 3}}},
    "no such input": {"a": {"files": {"input_x": "/tmp/x.png"}}},
    "a name": {"../../x": {"files": {"input_image": "/tmp/x.png"}}},
    "half a pair": {"a": {"files": {"input_image": "\ud800"}}},
    "a null byte": {"a": {"files": {"input_image": "a\0b"}}},
}


@pytest.mark.parametrize("case", BATCHES)
def test_an_odd_batch_is_no_traceback(case, tmp_path, capsys):
    for options in ({}, {"sets": 3}, {"seed": 10**400}, {"config_file": 7}, None):
        document = {"jobs": BATCHES[case], "options": options}
        (tmp_path / "batch.json").write_text(json.dumps(document))
        code, shown = told(capsys, "resume", tmp_path)
        assert code == 2, shown
        assert "batch.json cannot be read" in shown
