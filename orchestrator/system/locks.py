"""One process at a time: the kernel's lock on a file, or where it has none, a file that says whose.

The kernel's lock ends with its process, however that dies. Network and shared folders may have no
such locks (ENOLCK, EOPNOTSUPP, ...): there <file>.owner names host, process and its start, and a
thread keeps it fresh. The owner's own host sees at once that a process is dead; another host takes
over after `LEASE_SECONDS` without a sign of life. Hosts need not agree on the time of day: each
measures by its own clock how long the file has stayed as it is.

Hosts that see one folder should have the same of both. One that has the kernel's locks heeds an
owner file that it finds; one that has none cannot see the kernel's locks of the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import KissError, OutputError, RunLockedError
from orchestrator.system.stop_signals import STOP, interrupt_main_thread
from orchestrator.system.terminal import say

LOCK = ".lock"
LOCK_FILES = (LOCK, f"{LOCK}.owner")
BATCH_FILE = "batch.json"
SHARDS_FILE = "shards.json"
"""In the directory that the shards of a batch share: the whole list."""
CANDIDATES_FILE = "candidates.json"
"""In a batch of one subject's seeds: their scores."""
LEASE_SECONDS = 60.0
"""An NFS client may show a file as it was up to a minute ago (acregmax), a sign of life too."""
_EMPTY_SECONDS = 5.0
"""From making an owner file to writing it, at most: milliseconds, and more on a busy server."""
_NO_LOCKS_HERE = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
)
_FIRST_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of linux/proc_ns.h: the process numbers of the machine itself."""


class InUseError(Exception):
    """Another process holds the lock."""


def owner_file(file: Path) -> Path:
    """The file that says whose a lock is, where the kernel has none."""
    return file.with_name(f"{file.name}.owner")


@contextlib.contextmanager
def held(file: Path, seconds: float = 0.0, patient: bool = True) -> Iterator[None]:
    """Hold the lock on a file, waiting for it for so long. Raises `InUseError` or OSError, and
    leaves no file that it has made then.

    patient: wait on for what an owner on another host may still say, where the kernel cannot.
    """
    fresh = not os.path.lexists(file)
    with contextlib.ExitStack() as stack:
        try:
            if not _lock(stack, file, seconds) or os.path.lexists(owner_file(file)):
                _lease(stack, file, seconds, patient)
        except OSError:
            if fresh:
                with contextlib.suppress(OSError):
                    file.unlink()
            raise
        yield


def _lock(stack: contextlib.ExitStack, file: Path, seconds: float) -> bool:
    """Hold the kernel's lock until the stack ends; False where the file system has none."""
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=seconds, fallback_to_soft=False)
    for last in (False, False, True):
        try:
            lock.acquire()
        except Timeout:
            raise InUseError(f"{file} is locked") from None
        except NotImplementedError:  # how the library tells ENOSYS
            return False
        except OSError as error:
            if error.errno in _NO_LOCKS_HERE:
                return False
            if error.errno != errno.ESTALE or last:
                raise
        else:
            stack.callback(lock.release, force=True)
            return True
    raise AssertionError("unreachable: the last one returns or raises")


def _lease(stack: contextlib.ExitStack, file: Path, seconds: float, patient: bool) -> None:
    """Be the owner that the file beside it names, until the stack ends."""
    from filelock import SoftFileLease, Timeout

    def lost(_: object) -> None:
        """Another host has seen no sign of life of this process, which was stopped or cut off from
        the folder, and works there now: two must not."""
        say(f"warning: {file.parent} was taken over by another process: this one stops", err=True)
        interrupt_main_thread()

    lease = SoftFileLease(owner_file(file), lease_duration=LEASE_SECONDS, on_compromise=lost)
    try:
        try:
            if patient:
                _disown_empty(owner_file(file))
            lease.acquire(timeout=seconds)
        except Timeout:
            if not patient or owner_is_here(file):
                raise
            _disown_empty(owner_file(file))
            # Whether a process of another host lives only shows in a while.
            lease.acquire(timeout=1.2 * LEASE_SECONDS)
    except Timeout:
        raise InUseError(f"{file} is locked") from None
    stack.callback(lease.release, force=True)


def _disown_empty(owner: Path) -> None:
    """Have an owner file that stays empty taken over: its process was killed between making and
    writing it. The library believes an empty file for ever, and one that says nothing for a moment.
    """
    with contextlib.suppress(OSError):
        first, until = owner.stat(), time.monotonic() + _EMPTY_SECONDS
        while _is_empty(owner.stat(), first):
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            descriptor = os.open(owner, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(descriptor, "wb") as stream:
                if _is_empty(os.fstat(descriptor), first):
                    stream.write(b"nobody\n")
            return


def _is_empty(now: os.stat_result, first: os.stat_result) -> bool:
    """Whether it is the same file as at first, and empty."""
    return os.path.samestat(now, first) and now.st_size == 0


def owner_is_here(file: Path) -> bool:
    """Whether the owner is a process of this host, of which the library knows that it lives."""
    try:
        lines = owner_file(file).read_text(errors="replace").splitlines()
    except OSError:
        return False
    return f"host={_this_host()}" in lines


def _is_silent(file: Path) -> bool:
    """Whether an owner on another host has given no sign of life for so long that its process must
    be dead. Both times are those of the file's own server, which hosts need not agree with."""
    if owner_is_here(file):
        return False
    try:
        last = owner_file(file).stat().st_mtime
        os.utime(file)
        return file.stat().st_mtime - last > 3.0 * LEASE_SECONDS
    except OSError:
        return False


def _this_host() -> str:
    """As the library writes it: with the namespace of the process numbers, in a container that has
    its own."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return name if namespace == _FIRST_NAMESPACE else f"{name}?pidns-{namespace:x}"
    return name


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
def directory_lock(path: Path, seconds: float = 0.0, patient: bool = True) -> Iterator[None]:
    """Hold the lock file of a run or batch directory, waiting for it for so long.

    Raises `RunLockedError` or `OutputError`.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path / LOCK, seconds, patient))
        except InUseError:
            raise RunLockedError(
                f"another process is working in {path}",
                "wait for it to end, or give this run another --output",
            ) from None
        except OSError as error:
            raise output_error(path, error) from error

        def remove() -> None:
            with contextlib.suppress(OSError):
                (path / LOCK).unlink(missing_ok=True)

        # The kernel's lock ends with the process, and its file is to be gone even by force.
        with STOP.last_act(remove):
            try:
                yield
            finally:
                remove()


def in_use(path: Path) -> bool:
    """Whether a process works in a run or batch directory, or nobody can say.

    A lock file that exists is tried, which ends at once. Whoever works there is not disturbed: its
    lock file exists for as long as it runs. An owner on another host is believed for as long as a
    process there would wait, and as its sign of life may be late.
    """
    if not os.path.lexists(path / LOCK) or _is_silent(path / LOCK):
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
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError) -> OutputError:
    """What the system refuses at `path`, in words."""
    hint = "choose another --output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free disk space, or {hint}"
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        hint = f"a file is where a directory has to be: {hint}"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"make it writable, or {hint}"
    return OutputError(f"cannot write to {path}: {error.strerror or error}", hint)
