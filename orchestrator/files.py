"""Writing files so that a crash at any moment leaves the old content or the new, never a mix."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_PRIVATE = "kiss3d-"
_ALIVE = "alive.lock"
_CLAIMED = "claimed"


def write_atomic(path: Path, content: bytes | memoryview, durable: bool = True) -> None:
    """Write a temporary file beside `path`, fsync it (if `durable`) and rename it over `path`."""
    temp = _temporary(path)
    with _removed_on_error(temp):
        with temp.open("xb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temp, path)
    if durable:
        sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def is_leftover(name: str, target: str = r".+") -> bool:
    """Whether a file's name is one that a killed `write_atomic` to `target` (a pattern) leaves."""
    return re.fullmatch(rf"\.{target}\.[0-9a-f]{{8}}\.part", name) is not None


def discard_leftovers(folder: Path) -> None:
    """Remove what killed writers left in a folder that nobody else writes to now."""
    for entry in folder.iterdir():
        if is_leftover(entry.name):
            with contextlib.suppress(OSError):
                entry.unlink()


@contextlib.contextmanager
def _removed_on_error(temp: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode(), durable)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if need be, so that no power cut takes them back."""
    new = [folder for folder in path.parents if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in (path, *new):
        with contextlib.suppress(PermissionError):  # writable, but not readable: to make it will do
            sync_folder(folder.parent)


def sync_and_digest(path: Path) -> str:
    """fsync a finished file and return its `digest_file`."""
    _sync(path)
    return digest_file(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def digest_file(path: Path) -> str:
    """The content digest of a file ("blake2b:...")."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return f"blake2b:{digest.hexdigest()}"


def digest_bytes(content: bytes) -> str:
    """The same digest for bytes in memory."""
    return f"blake2b:{hashlib.blake2b(content, digest_size=16).hexdigest()}"


def copy_atomic(source: Path, target: Path, durable: bool = False) -> None:
    """Give `target` the content of `source`, whole or not at all, and fsynced if `durable`.

    Never a hard link: two runs must not share one inode that an editor could change under both.
    """
    temp = _temporary(target)
    with _removed_on_error(temp):
        shutil.copyfile(source, temp)
        if durable:
            _sync(temp)
        os.replace(temp, target)


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder (0700) for sockets and scratch that is removed at the end."""
    with unclaimed_folder() as folder, claimed(folder):
        yield folder


@contextlib.contextmanager
def unclaimed_folder() -> Iterator[Path]:
    """The same, to be `claimed` within a minute: until then nobody sweeps it away."""
    folder = Path(tempfile.mkdtemp(prefix=_PRIVATE))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a private folder's lock, which tells the living from the dead, across containers too.

    A killed process cannot remove its own folder: `sweep_private_folders` does, once the kernel has
    dropped the lock with its process.
    """
    from filelock import FileLock

    with FileLock(folder / _ALIVE, timeout=0):
        (folder / _CLAIMED).touch()  # others may try the lock from now on: it is not born locked
        yield


def sweep_private_folders() -> None:
    """Remove private folders that dead processes left behind."""
    from filelock import FileLock, Timeout

    for folder in Path(tempfile.gettempdir()).glob(f"{_PRIVATE}*"):
        with contextlib.suppress(OSError, Timeout):
            if not (folder / _CLAIMED).exists() and time.time() - folder.stat().st_mtime < 60.0:
                continue  # somebody is just making it
            with FileLock(folder / _ALIVE, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def is_disk_full(error: OSError) -> bool:
    """Whether there is no room: on the disk, in the user's quota, or for a file of this size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def next_log(folder: Path, stem: str) -> Path:
    """An empty log file "<stem>N.log" with the first number that is not taken."""
    number = 1
    while True:
        try:
            path = folder / f"{stem}{number}.log"
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


def printable(path: Path) -> str:
    """A path as text that any encoding of the record can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def valid_text(value: Any) -> Any:
    """Plain data with all its values in Unicode: a byte of a file's name that is no UTF-8 arrives
    as half a surrogate pair, which not every JSON reader takes. It is spelled out (`\\udce9`)."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: valid_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [valid_text(item) for item in value]
    return value


def slug(text: str) -> str:
    """A name that is safe as one path component on every system: letters and digits of any script,
    and - _ . ; cut so that it fits where names are limited to 255 bytes, with a suffix to spare."""
    cleaned = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("._")
    return cleaned[:80].encode()[:180].decode(errors="ignore") or "input"
