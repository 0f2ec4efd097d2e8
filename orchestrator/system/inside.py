"""Files below a folder that may come from anybody: nothing outside of it is written or removed.

A run directory may be somebody else's, with links in it that lead out. So a path below it is walked
part by part, and no part may be a link. Where the system has the calls (openat with O_NOFOLLOW) it
refuses by itself, so nothing can be swapped in between; on Windows real paths are compared before
each step. A link where a file is to be written is replaced by the file, never written through; one
where a folder has to be is a `LinkError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from orchestrator.system.places import (
    FOLDER,
    HAS_OPENAT,
    NEW,
    NO_FOLLOW,
    LinkError,
    Place,
    is_temporary,
    sync,
    temporary_name,
)
from orchestrator.system.sharing import alike, clone


@dataclass(frozen=True)
class Entry:
    """What lies in a folder.

    is_folder, is_file  itself, not what it links to
    size    in bytes
    inode   (device, number): the same for all names of one file, of which there are `names`
    """

    name: str
    is_folder: bool
    is_file: bool
    size: int
    inode: tuple[int, int] = (0, 0)
    names: int = 1


@dataclass(frozen=True)
class Inside:
    """The files below `root`, which itself may be reached by links: the user named it.

    Files and folders are named by their path below it, with "/" between its parts; "" is the root.
    Every method raises OSError, or ValueError for a name that would lead out ("..", "/etc/x").
    """

    root: Path

    @contextlib.contextmanager
    def _place(self, folder: str) -> Iterator[Place]:
        parts = _parts(folder)
        if not parts:
            yield Place(None, str(self.root))
            return
        if not HAS_OPENAT:
            yield Place(None, self._compared(parts))
            return
        path = str(self.root)
        at = os.open(path, FOLDER)
        try:
            for part in parts:
                path = os.path.join(path, part)
                try:
                    deeper = os.open(part, FOLDER | NO_FOLLOW, dir_fd=at)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.islink(path):
                        raise LinkError(path) from None
                    raise type(error)(error.errno, error.strerror, path) from None
                os.close(at)
                at = deeper
            yield Place(at, path)
        finally:
            os.close(at)

    def _compared(self, parts: list[str]) -> str:
        path = os.path.realpath(self.root)
        for part in parts:
            path = os.path.join(path, part)
            same = os.path.normcase(os.path.realpath(path)) == os.path.normcase(path)
            if os.path.islink(path) or not same:  # of a link to itself the real path is itself
                raise LinkError(path)
        return path

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[Place, str]]:
        folder, _, name = path.rpartition("/")
        [name] = _parts(name)
        with self._place(folder) as place:
            yield place, name

    def check(self, path: str) -> None:
        """Raise `LinkError` if any part of `path` is a link; it need not exist."""
        self._compared(_parts(path))

    def entries(self, folder: str = "") -> list[Entry]:
        """What lies in a folder, sorted by name; [] if there is no such folder, or only a link."""
        found = []
        try:
            with self._place(folder) as place:
                for name in sorted(os.listdir(place.path if place.at is None else place.at)):
                    with contextlib.suppress(FileNotFoundError):
                        seen = os.stat(place.named(name), follow_symlinks=False, **place.by)
                        is_folder, is_file = stat.S_ISDIR(seen.st_mode), stat.S_ISREG(seen.st_mode)
                        inode = seen.st_dev, seen.st_ino
                        found.append(
                            Entry(name, is_folder, is_file, seen.st_size, inode, seen.st_nlink)
                        )
        except (FileNotFoundError, NotADirectoryError, LinkError):
            return []
        return found

    def make_folder(self, folder: str) -> None:
        """Make a folder, and those above it that are missing below the root."""
        made = ""
        for part in _parts(folder):
            with self._place(made) as place, contextlib.suppress(FileExistsError):
                os.mkdir(place.named(part), **place.by)
            made = f"{made}/{part}" if made else part
        with self._place(made):
            return  # it is a folder, and no link to one

    def write(self, file: str, content: bytes | memoryview, durable: bool = True) -> None:
        """Write a temporary file beside it, fsync that (if `durable`) and rename it to `file`."""
        with self.replacing(file, durable) as stream:
            stream.write(content)

    def copy(self, source: IO[bytes], file: str, durable: bool = False) -> None:
        """Give `file` the content of a stream, whole or not at all, and fsynced if `durable`.

        `source` is at its beginning. Where the file system can, both share their blocks until one
        of them is written to (a reflink), which takes no space; never a hard link.
        """
        with self.replacing(file, durable) as stream:
            if not clone(source, stream):
                shutil.copyfileobj(source, stream, 1 << 20)

    def share(self, other: Inside, its_file: str, file: str, durable: bool = False) -> None:
        """As `copy`, of a file below another root; a hard link to it where there is no reflink.

        A link changes with its other names, so it is only for what is held to a digest before it
        is used. A file that is somebody else's, or has other rights than a new one, is copied.
        """
        with (
            other._parent(its_file) as (there, its_name),
            open(there.open(its_name, os.O_RDONLY), "rb") as source,
            self._renaming(file, durable) as (place, temp),
            open(place.open(temp, NEW), "wb") as stream,
        ):
            written: IO[bytes] = stream
            if not clone(source, stream):
                if alike(source, stream) and place.link(there, its_name, temp, source):
                    written = source
                else:
                    shutil.copyfileobj(source, stream, 1 << 20)
                    stream.flush()
            if durable:
                sync(written.fileno())

    @contextlib.contextmanager
    def replacing(self, file: str, durable: bool = True) -> Iterator[BinaryIO]:
        """As `write`, of what is written into the stream meanwhile; nothing where that fails."""
        with (
            self._renaming(file, durable) as (place, temp),
            open(place.open(temp, NEW), "wb") as stream,
        ):
            yield stream
            if durable:
                stream.flush()
                sync(stream.fileno())

    @contextlib.contextmanager
    def _renaming(self, file: str, durable: bool) -> Iterator[tuple[Place, str]]:
        """Where to make a file, and the temporary name from which it is renamed to `file`."""
        with self._parent(file) as (place, name):
            temp = temporary_name(name)
            try:
                yield place, temp
                place.rename(temp, name)
                place.remove(temp)  # still there if both were names of one file
            except BaseException:
                with contextlib.suppress(OSError):
                    place.remove(temp)
                raise
            if durable:
                place.sync()

    def append(self, file: str, content: bytes) -> None:
        """Write behind the end of a file, which is made if it is missing.

        A link is replaced by a new file; a file that has a second name somewhere (a hard link), by
        a copy of its own.
        """
        try:
            descriptor = self._open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except LinkError:
            self.write(file, content, durable=False)
            return
        with open(descriptor, "ab") as stream:
            if os.fstat(descriptor).st_nlink == 1:
                stream.write(content)
                return
        with self.read(file) as old:
            self.write(file, old.read() + content, durable=False)

    def _open(self, file: str, flags: int) -> int:
        with self._parent(file) as (place, name):
            return place.open(name, flags)

    def read(self, file: str) -> BinaryIO:
        """A regular file, open for reading."""
        return open(self._open(file, os.O_RDONLY), "rb")

    @contextlib.contextmanager
    def partial(self, file: str, start: int) -> Iterator[BinaryIO]:
        """A file to go on with at byte `start`; what was behind it is cut off."""
        with open(self._open(file, os.O_RDWR | os.O_CREAT), "r+b") as stream:
            if os.fstat(stream.fileno()).st_nlink > 1:
                raise LinkError(self.root / file, "has a second name elsewhere (a hard link)")
            stream.seek(start)
            stream.truncate()
            yield stream

    def sync(self, file: str) -> None:
        """fsync a finished file."""
        # Windows syncs only what it may write.
        descriptor = self._open(file, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self, folder: str = "") -> None:
        """Make renames in a folder durable."""
        with self._place(folder) as place:
            place.sync()

    def discard_temporaries(self, folder: str = "") -> None:
        """Remove what killed writers left in a folder that nobody else writes to now."""
        with contextlib.suppress(OSError):
            for entry in self.entries(folder):
                if entry.is_file and is_temporary(entry.name):
                    self.remove(f"{folder}/{entry.name}" if folder else entry.name)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in its folder, in place of what has that name."""
        with self._parent(old) as (place, name):
            place.rename(name, _parts(new.rpartition("/")[2])[0])

    def remove(self, file: str) -> None:
        """Remove a file, or a link itself; nothing there is no error."""
        try:
            with self._parent(file) as (place, name):
                place.remove(name)
        except FileNotFoundError:  # nor is its folder there
            return

    def remove_folder(self, folder: str) -> None:
        """Remove a folder below the root if it is empty. Nothing there is no error, nor is a rest
        in it."""
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            self._parent(folder) as (place, name),
        ):
            try:
                os.rmdir(place.named(name), **place.by)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise


def _parts(path: str) -> list[str]:
    parts = path.split("/") if path else []
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or (os.name == "nt" and set(part) & set("\\:")):
            raise ValueError(f"{path!r} does not stay inside of its folder")
    return parts
