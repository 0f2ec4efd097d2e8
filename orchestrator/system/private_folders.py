"""Private folders for sockets and scratch, and the removal of those that dead processes left."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.system import locks

PREFIX = ".kiss3d-private-"
"""In the system's temporary folder; hidden, and nothing that anybody would type."""
MARKER = "made-by-kiss3d-orchestrate"
_MARK = b"A private folder of a kiss3d-orchestrate process. It goes when that process ends.\n"
_ALIVE = "alive.lock"
_CLAIMED = "claimed"
_UNCLAIMED_SECONDS = 60.0
_TRIES, _BETWEEN_TRIES = 20, 0.01


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder (0700) for sockets and scratch that is removed at the end."""
    with unclaimed_folder() as folder, claimed(folder):
        yield folder


@contextlib.contextmanager
def unclaimed_folder() -> Iterator[Path]:
    """The same, to be `claimed` within a minute: until then nobody sweeps it away."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        (folder / MARKER).write_bytes(_MARK)
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a private folder and what is in it, also while somebody else is at it: what is listed
    while files vanish may lack some of them, and a folder that holds any stays."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_BETWEEN_TRIES)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a private folder's lock, which tells the living from the dead, across containers too.

    A killed process cannot remove its own folder: `sweep_private_folders` does, once the lock is
    nobody's any more.
    """
    with locks.held(folder / _ALIVE):
        (folder / _CLAIMED).touch()  # after the lock is held: no sweep finds the marker alone
        yield


def sweep_private_folders() -> None:
    """Remove private folders that dead processes left behind.

    Only folders (no links to one) that hold the marker, both owned by this user: whatever else has
    such a name is not ours.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, locks.InUseError):
            if not _is_ours(folder) or _is_being_made(folder):
                continue
            with locks.held(folder / _ALIVE):
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    marker = folder / MARKER
    seen = (folder.lstat(), marker.lstat())
    if not (stat.S_ISDIR(seen[0].st_mode) and stat.S_ISREG(seen[1].st_mode)):
        return False
    if hasattr(os, "getuid") and any(one.st_uid != os.getuid() for one in seen):
        return False
    return marker.read_bytes() == _MARK


def _is_being_made(folder: Path) -> bool:
    young = time.time() - folder.lstat().st_mtime < _UNCLAIMED_SECONDS
    return young and not (folder / _CLAIMED).exists()
