"""A sweep of the temporary folder removes what a dead process of this program left, and no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from devtools.fakes.tools import cli_environment
from orchestrator.system import private_folders
from orchestrator.system.private_folders import (
    MARKER,
    PREFIX,
    claimed,
    remove,
    sweep_private_folders,
    unclaimed_folder,
)

KILLED = """
import os, signal
from orchestrator.system.private_folders import private_folder
with private_folder() as folder:
    (folder / "scratch").mkdir()
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_also_while_somebody_else_is_at_it(tmp_path, monkeypatch):
    """A listing of files that vanish meanwhile may lack some that are there."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "claimed").touch()
    whole, listings = shutil.rmtree, iter((False, False, True))

    def rmtree(path, **options):
        if next(listings):
            whole(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove(folder)
    assert not folder.exists()


def age(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - 10_000.0,) * 2, follow_symlinks=False)


def left_by_a_killed_process(temporary: Path) -> Path:
    environment = {**cli_environment(), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", KILLED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip())
    assert folder.is_dir()
    return folder


def test_a_folder_whose_lock_is_just_being_taken_is_not_swept_away(temporary):
    """A lock file is there a moment before it is locked, and somebody may look in that moment."""
    with unclaimed_folder() as folder:
        (folder / "alive.lock").touch()
        sweep_private_folders()
        assert folder.is_dir()
        with claimed(folder):
            age(folder)
            sweep_private_folders()
            assert folder.is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_the_folder_of_a_killed_process_is_swept_away(temporary):
    folder = left_by_a_killed_process(temporary)
    assert folder.stat().st_mode & 0o077 == 0
    sweep_private_folders()
    assert os.listdir(temporary) == []


@pytest.mark.parametrize(
    "name",
    [
        "kiss3d-out",
        "kiss3d-orchestrate",
        "kiss3d-",
        "kiss3d-private-x",
        ".kiss3d",
        f"{PREFIX}mine",
        f"{PREFIX}",
    ],
)
@pytest.mark.parametrize("content", ["result", "clone", "lock", "claimed", "false marker"])
def test_a_folder_that_this_program_did_not_make_stays(temporary, name, content):
    folder = temporary / name
    (folder / "result").mkdir(parents=True)
    (folder / "result" / "mesh.glb").write_bytes(b"work of a week")
    if content == "clone":
        (folder / ".git").mkdir()
    elif content == "lock":
        (folder / "alive.lock").touch()
    elif content == "claimed":
        (folder / "alive.lock").touch()
        (folder / "claimed").touch()
    elif content == "false marker":
        (folder / MARKER).write_bytes(b"")
    age(folder)
    sweep_private_folders()
    assert (folder / "result" / "mesh.glb").read_bytes() == b"work of a week"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
@pytest.mark.parametrize("what", ["the folder", "the marker"])
def test_a_link_is_not_swept_through(temporary, what):
    real = left_by_a_killed_process(temporary)
    kept = temporary / "kept"
    real.rename(kept)
    if what == "the folder":
        real.symlink_to(kept)
    else:
        kept.rename(real)
        (real / MARKER).rename(temporary / "marker")
        (real / MARKER).symlink_to(temporary / "marker")
        kept = real
    sweep_private_folders()
    assert (kept / "scratch").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_links_in_a_swept_folder_are_not_followed(temporary):
    mine = temporary / "mine"
    mine.mkdir()
    (mine / "notes.txt").touch()
    folder = left_by_a_killed_process(temporary)
    (folder / "scratch" / "link").symlink_to(mine)
    sweep_private_folders()
    assert not folder.exists()
    assert (mine / "notes.txt").exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners are POSIX")
def test_a_folder_of_another_user_stays(temporary, monkeypatch):
    folder = left_by_a_killed_process(temporary)
    monkeypatch.setattr(private_folders.os, "getuid", lambda: os.stat(folder).st_uid + 1)
    sweep_private_folders()
    assert folder.is_dir()
