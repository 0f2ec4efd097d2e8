"""`doctor` looks for real, and survives what it looks at."""

from __future__ import annotations

import json
import os

import pytest

STUBS = {
    "crashes": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "is missing a library": ("raise ImportError('libcudart.so.13: not found')", "libcudart.so.13"),
    "exits": ("import os; os._exit(7)", "exit code 7"),
}


def rows_of(done) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_every_row_that_is_not_ok_says_what_to_do(kiss3d):
    done = kiss3d("doctor", "--json")
    assert done.returncode == 0, done.stderr
    rows = rows_of(done)
    for name in ("python", "packages", "driver", "torch", "pytorch3d", "host RAM", "disk"):
        assert name in rows
    assert "weights: sketch" in rows
    for row in rows.values():
        assert row["verdict"] == "ok" or row["remedy"]


def test_from_a_clone_its_commands_are_those_of_the_launcher(kiss3d, monkeypatch):
    monkeypatch.setenv("KISS3D_CALLED_AS", "bin/kiss3d-orchestrate")
    told = kiss3d("doctor", "--profile", "full_12gb").stdout
    assert "-> bin/kiss3d-orchestrate models pull --profile full_12gb" in told


@pytest.mark.parametrize("case", STUBS)
def test_a_pytorch3d_that_breaks_is_a_row_not_a_crash(case, kiss3d, tmp_path, monkeypatch):
    code, says = STUBS[case]
    stub = tmp_path / "stub" / "pytorch3d"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stub.parent), os.environ["PYTHONPATH"]]))
    row = rows_of(kiss3d("doctor", "--json"))["pytorch3d"]
    assert row["verdict"] == "warn"
    assert says in row["found"]
    assert "ISOMER draws without it" in row["remedy"]
