"""The folder of what browsers send: private, limited in all, emptied at the end.

A run copies what it was given when it is taken, so that an upload is needed for minutes; what is
oldest goes when there are too many.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

from orchestrator.errors import InputFileError

ROOM = 16
"""Times the largest upload: what all uploads together may take of the disk."""
YOUNG_SECONDS = 30.0
"""An upload of that age may be in the middle of being used."""


class Uploads:
    """folder: where Gradio puts them; most: bytes of one."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self._room = ROOM * most
        self._lock = threading.Lock()

    def require(self, path: str | None, what: str) -> Path:
        """A file that was uploaded here, whatever the browser says it is.

        Raises `InputFileError` for none, and for a path anywhere else.
        """
        if not path:
            raise InputFileError(f"there is no {what}", f"choose a {what} first")
        found = Path(path)
        if found.is_symlink() or self.folder.resolve() not in found.resolve().parents:
            raise InputFileError(f"the {what} was not uploaded here", "choose the file again")
        return found

    def make_room(self) -> None:
        """Remove the oldest until half of the room is free for what comes."""
        with self._lock:
            files = sorted(self._files())
            left = sum(size for _, size, _ in files)
            limit = time.time() - YOUNG_SECONDS
            for changed, size, path in files:
                if left <= self._room // 2 or changed > limit:
                    return
                with contextlib.suppress(OSError):
                    path.unlink()
                    left -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    seen = path.lstat()
                    if stat.S_ISREG(seen.st_mode):
                        found.append((seen.st_mtime, seen.st_size, path))
        return found
