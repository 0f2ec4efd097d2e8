"""New folders: private where others could look in, and gone again if their making fails."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from orchestrator.system.inside import Inside
from orchestrator.system.places import is_temporary

_OURS = re.compile(
    r"run\.json|(batch|shards)\.json|events\.jsonl|(input|mask)\.\w+|\.lock(\.owner)?"
)
"""What this program puts into a run or batch directory before any stage works."""


def settled(path: Path) -> Path:
    """What `new/../kept` will be once there is a folder `new`: `kept`, which has to be looked at
    before anything is made. Other paths stay as they were written."""
    for count, part in enumerate(path.parts):
        if part == ".." and not os.path.isdir(Path(*path.parts[:count])):
            found = os.path.realpath(path)
            return Path(found if path.is_absolute() else os.path.relpath(found))
    return path


def make_folders(path: Path) -> list[Path]:
    """Make `path` and the folders above it that are missing; those that were made, deepest first.

    No power cut takes them back. In a folder that everybody may write to (/tmp) they are for this
    user alone (0700): nobody else shall look at the pictures there, or put links in the way. Raises
    OSError.
    """
    missing = []
    for folder in (path, *path.parents):
        if folder.exists():
            break
        missing.append(folder)
    mode = new_folder_mode(path)
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode)
                made.insert(0, folder)
        if not path.is_dir():
            path.mkdir(mode)  # a file is in the way: the system's own error
        for folder in (path, *made[1:]):
            with contextlib.suppress(PermissionError):  # writable, but not readable: that must do
                Inside(folder.parent).sync_folder()
    except OSError:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return made


def new_folder_mode(path: Path) -> int:
    """Access rights of a new folder at `path`: the umask's, or in a shared folder the user's."""
    return 0o700 if any(_is_shared(folder) for folder in path.resolve().parents) else 0o777


def _is_shared(folder: Path) -> bool:
    """Whether everybody may write there; nobody means that on Windows by these bits."""
    with contextlib.suppress(OSError):
        return os.name != "nt" and bool(folder.stat().st_mode & stat.S_IWOTH)
    return False


class NewFolder:
    """Have the folder `path`, and take back what a failure would leave of it. A context manager.

    Unless `keep` was called, this program's files that came to be in it are removed at the end,
    and so are the folders that were made for it. What was there before stays.

    fresh: folders that were made for this a moment ago, the innermost first.
    """

    def __init__(self, path: Path, fresh: Sequence[Path] = ()) -> None:
        self._path = path
        self._made = list(fresh)
        self._before: set[str] = set()
        self._kept = False

    def __enter__(self) -> NewFolder:
        self._made += make_folders(self._path)
        self._before = set(os.listdir(self._path))
        return self

    def keep(self) -> None:
        """It is what it was meant to be: nothing is taken back."""
        self._kept = True

    def take_back(self) -> None:
        """It was not, after all."""
        self._kept = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kept:
            return
        with contextlib.suppress(OSError):
            for name in set(os.listdir(self._path)) - self._before:
                if _OURS.fullmatch(name) or is_temporary(name):
                    (self._path / name).unlink()
            for folder in self._made:
                folder.rmdir()
