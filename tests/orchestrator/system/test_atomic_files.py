"""Whatever interrupts a write, a reader finds the old content or the new one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtools.fakes.tools import cli_environment
from orchestrator.system import atomic_files
from orchestrator.system import text as system_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")

LIMITED = """
import resource, signal, sys
from pathlib import Path
from orchestrator.system.atomic_files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), b"new" * 1000)
except OSError as error:
    sys.exit(error.errno)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator.system import atomic_files as files
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
os.replace = die
files.write_atomic(Path(sys.argv[1]), b"new")
"""


def run_python(program: str, *arguments: object) -> int:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=cli_environment()).returncode


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_replaces_the_content_and_leaves_nothing_else(old, durable):
    atomic_files.write_atomic(old, memoryview(b"new"), durable)
    assert old.read_bytes() == b"new"
    assert os.listdir(old.parent) == ["run.json"]


@posix
def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_content(old):
    assert run_python(LIMITED, old) == errno.EFBIG
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["run.json"]


@posix
def test_a_process_that_is_killed_in_the_middle_leaves_the_old_content(old):
    assert run_python(KILLED, old) == -9
    assert old.read_bytes() == b"old"
    [part] = set(os.listdir(old.parent)) - {"run.json"}
    assert part.startswith(".run.json.")
    assert part.endswith(".part"), "so that the next run's clean-up knows it"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_on_the_way_leaves_the_old_content_and_no_rest(old, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="Input/output"):
        atomic_files.write_atomic(old, b"new")
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["run.json"]


def test_an_interrupt_in_the_middle_leaves_the_old_content_and_no_rest(old, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_files.write_atomic(old, b"new")
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["run.json"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_long_json_is_as_if_it_were_written_at_once(count, tmp_path):
    head = {"good": 2, "jobs": [{"name": 'a "b"\n'}]}
    entries = {f"run {n}": {"nodes": {"a": [n, None]}, "é\n": "}\n"} for n in range(count)}
    atomic_files.write_long_json(tmp_path / "long", head, "runs", iter(entries.items()))
    assert json.loads((tmp_path / "long").read_text()) == {**head, "runs": entries}
    if entries:
        atomic_files.write_json(tmp_path / "short", {**head, "runs": entries})
        assert (tmp_path / "long").read_text() == (tmp_path / "short").read_text()


def test_a_long_json_whose_entries_break_off_leaves_the_old_content(old):
    def entries():
        yield "first", 1
        raise RuntimeError("the second cannot be read")

    with pytest.raises(RuntimeError):
        atomic_files.write_long_json(old, {"good": 1}, "runs", entries())
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["run.json"]


def test_json_that_cannot_be_written_leaves_the_old_content(old):
    with pytest.raises(TypeError):
        atomic_files.write_json(old, {"a": object()})
    assert old.read_bytes() == b"old"
    atomic_files.write_json(old, {"a": [1, "ä"]})
    assert json.loads(old.read_text()) == {"a": [1, "ä"]}


@given(content=st.binary(max_size=300))
def test_a_digest_depends_on_the_content_alone(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digests")
    for name in ("a", "b"):
        (folder / name).write_bytes(content)
    expected = atomic_files.digest_bytes(content)
    assert (
        atomic_files.digest_file(folder / "a")
        == atomic_files.sync_and_digest(folder / "b")
        == expected
    )
    (folder / "a").write_bytes(content + b"\0")
    assert atomic_files.digest_file(folder / "a") != expected


@given(text=st.text())
def test_any_text_becomes_one_safe_path_component(text):
    name = system_text.slug(text)
    assert 0 < len(name) <= 80
    assert set(name).isdisjoint('/\\:*?"<>| \0')
    assert name[0] not in ".-"
    assert system_text.slug(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mug", "mug"),
        ("a (2)", "a_2"),
        ("../../etc", "etc"),
        ("", "input"),
        ("杯", "杯"),
        ("ü ö", "ü_ö"),
        ("-rf", "rf"),
    ],
)
def test_a_name_stays_readable(text, name):
    assert system_text.slug(text) == name
