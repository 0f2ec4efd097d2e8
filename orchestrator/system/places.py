"""A folder that no link below a root leads to, and what is done with the entries in it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.system.sharing import HAS_LINKAT

HAS_OPENAT = {os.open, os.stat, os.mkdir, os.unlink, os.rmdir, os.rename} <= os.supports_dir_fd
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# A FIFO in the place of a file must not keep us waiting for its other end.
_FILE = NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class LinkError(OSError):
    """A link, or something else that is neither file nor folder, lies where one has to be."""

    def __init__(self, path: str | Path, what: str = "is a link, which is not followed") -> None:
        super().__init__(errno.ELOOP, what, str(path))


@dataclass(frozen=True)
class Place:
    """A folder that no link below the root leads to, by its descriptor `at` and its path.

    at: None for the root itself, which is reached as the user named it, and on Windows.
    """

    at: int | None
    path: str

    def named(self, name: str) -> str:
        """How the system's calls are told of an entry, together with `by`."""
        return name if self.at is not None else os.path.join(self.path, name)

    @property
    def by(self) -> dict[str, int]:
        return {} if self.at is None else {"dir_fd": self.at}

    def open(self, name: str, flags: int) -> int:
        """A descriptor of a regular file, never of what a link leads to."""
        told, full = self.named(name), os.path.join(self.path, name)
        if not NO_FOLLOW and os.path.islink(told):
            raise LinkError(full)
        try:
            descriptor = os.open(told, flags | _FILE, 0o666, **self.by)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # ENXIO: a FIFO or a socket
                raise LinkError(full) from None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise LinkError(full, "is no regular file")

    def remove(self, name: str) -> None:
        """Remove a file, or a link itself; nothing there is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.named(name), **self.by)

    def rename(self, old: str, new: str) -> None:
        both = {} if self.at is None else {"src_dir_fd": self.at, "dst_dir_fd": self.at}
        os.replace(self.named(old), self.named(new), **both)

    def link(self, there: Place, its_name: str, name: str, opened: BinaryIO) -> bool:
        """Make the file `name` another name of an opened one, if that can be done.

        Nothing but the file that was opened is taken, whatever has its name by now.
        """
        if not HAS_LINKAT:
            return False
        beside = temporary_name(name)
        both = {} if there.at is None else {"src_dir_fd": there.at}
        both |= {} if self.at is None else {"dst_dir_fd": self.at}
        try:
            os.link(there.named(its_name), self.named(beside), follow_symlinks=False, **both)
            found = os.stat(self.named(beside), follow_symlinks=False, **self.by)
            if os.path.samestat(found, os.fstat(opened.fileno())):
                self.rename(beside, name)
                return True
        except OSError:  # too many names, no right to it, a file system without
            pass
        with contextlib.suppress(OSError):
            self.remove(beside)
        return False

    def sync(self) -> None:
        if self.at is not None:
            sync(self.at)
        elif sys.platform != "win32":  # which has no such call, and needs none
            descriptor = os.open(self.path, FOLDER)
            try:
                sync(descriptor)
            finally:
                os.close(descriptor)


def temporary_name(name: str) -> str:
    """A name beside `name` for what is being written, which `is_temporary` knows again."""
    return f".{name}.{secrets.token_hex(4)}.part"


def is_temporary(name: str, of: str = ".+") -> bool:
    """Whether it is a `temporary_name` of a file whose name fits the pattern `of`."""
    return re.fullmatch(rf"\.{of}\.[0-9a-f]{{1,8}}\.part", name) is not None


def sync(descriptor: int) -> None:
    """fsync, where the file system can: network and shared folders may refuse it for folders."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
