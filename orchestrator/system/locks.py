"""One process at a time: the kernel's lock on a file, or where it has none, a file that says whose.

The kernel's lock ends with its process, however that dies. Network and shared folders may have no
such locks (ENOLCK, EOPNOTSUPP, ...): there <file>.owner names host, process and its start, and a
thread keeps it fresh. The owner's own host sees at once that a process is dead; another host takes
over after `LEASE_SECONDS` without a sign of life.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import KissError, OutputError, RunLockedError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
LOCK_FILES = (LOCK, f"{LOCK}.owner")
BATCH_FILE = "batch.json"
CANDIDATES_FILE = "candidates.json"
"""In a batch of one subject's seeds: their scores."""
LEASE_SECONDS = 60.0
"""An NFS client may show a file as it was up to a minute ago (acregmax), a sign of life too."""
_NO_LOCKS_HERE = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
)


class InUseError(Exception):
    """Another process holds the lock."""


def owner_file(file: Path) -> Path:
    """The file that says whose a lock is, where the kernel has none."""
    return file.with_name(f"{file.name}.owner")


@contextlib.contextmanager
def held(file: Path, seconds: float = 0.0, patient: bool = True) -> Iterator[None]:
    """Hold the lock on a file, waiting for it for so long. Raises `InUseError` or OSError.

    patient: wait on for what an owner on another host may still say, where the kernel cannot.
    """
    lock = _acquire(file, seconds, patient)
    try:
        yield
    finally:
        lock.release(force=True)


def _acquire(file: Path, seconds: float, patient: bool) -> BaseFileLock:
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise InUseError(f"{file} is locked") from None
    except NotImplementedError:  # how the library tells ENOSYS
        return _acquire_lease(file, seconds, patient)
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        return _acquire_lease(file, seconds, patient)
    return lock


def _acquire_lease(file: Path, seconds: float, patient: bool) -> BaseFileLock:
    from filelock import SoftFileLease, Timeout

    lease = SoftFileLease(owner_file(file), lease_duration=LEASE_SECONDS)
    try:
        try:
            lease.acquire(timeout=seconds)
        except Timeout:
            if not patient or _owner_is_here(file):
                raise
            # Whether a process of another host lives only shows in a while.
            lease.acquire(timeout=1.2 * LEASE_SECONDS)
    except Timeout:
        raise InUseError(f"{file} is locked") from None
    return lease


def _owner_is_here(file: Path) -> bool:
    """Whether the owner is a process of this host, of which the library knows that it lives."""
    try:
        lines = owner_file(file).read_text(errors="replace").splitlines()
    except OSError:
        return False
    return f"host={socket.gethostname()}" in lines


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """The lock of a run directory, and of the batch that it belongs to.

    Raises `RunLockedError` or `OutputError`.
    """
    with contextlib.ExitStack() as stack:
        if (path.parent / BATCH_FILE).is_file():
            stack.enter_context(directory_lock(path.parent))
        stack.enter_context(directory_lock(path))
        yield


@contextlib.contextmanager
def directory_lock(path: Path, patient: bool = True) -> Iterator[None]:
    """Hold the lock file of a run or batch directory. Raises `RunLockedError` or `OutputError`."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path / LOCK, patient=patient))
        except InUseError:
            raise RunLockedError(
                f"another process is working in {path}",
                "wait for it to end, or give this run another --output",
            ) from None
        except OSError as error:
            raise _output_error(path, error) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (path / LOCK).unlink(missing_ok=True)


def in_use(path: Path) -> bool:
    """Whether a process works in a run or batch directory, or nobody can say.

    A lock file that exists is tried, which ends at once. Whoever works there is not disturbed: its
    lock file exists for as long as it runs.
    """
    if not os.path.lexists(path / LOCK):
        return False
    try:
        with directory_lock(path, patient=False):
            return False
    except KissError:  # held, or not ours to look at
        return True


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Raise `OutputError` for what the system refuses while something is made at `path`."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError) -> OutputError:
    hint = "choose another --output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free disk space, or {hint}"
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        hint = f"a file is where a directory has to be: {hint}"
    return OutputError(f"cannot write to {path}: {error.strerror or error}", hint)
