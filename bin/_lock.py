"""The lock beside an environment: held shared by all who run in it, alone by the one who makes it.

The kernel drops a lock with its last holder, so nothing is stale after a kill. Installers inherit
it: one that outlives a killed launcher keeps the next launcher waiting instead of racing it.
Standard library only, and it parses on Python 3.8 (see _venv.py).
"""

from __future__ import annotations

import errno
import os
import sys

POLL_S = 0.1
"""How often a waiting start looks whether it can go on."""

QUIET_POLLS = 3
"""A wait shorter than this is not worth a message."""

_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def say(text: str) -> None:
    """Tell the user, on stderr: stdout belongs to the program that is being started."""
    print(f"kiss3d-orchestrate: {text}", file=sys.stderr, flush=True)


def hold_lock(path: str, *, exclusive: bool) -> int:
    """Hold the environment's lock, waiting for whoever has it."""
    import time

    polls = 0
    while (lock := try_lock(path, exclusive=exclusive, needed=False)) is None:
        polls += 1
        if polls == QUIET_POLLS:
            whom = "runs in it" if exclusive else "sets it up"
            say(f"{path}: waiting for another process that {whom}")
        time.sleep(POLL_S)
    return lock


def try_lock(path: str, *, exclusive: bool, needed: bool = True) -> int | None:
    """Hold the lock beside `path`; None if it cannot be had now.

    needed: None as well where the file system has no locks; else that goes on without one, for a
    start that waited for it would wait for ever.

    A reader opens the file read-only, so that one user can run what another one has installed.
    Windows has no shared locks of this kind, so there a reader only makes sure that nobody is
    making the environment; files in use cannot be removed there anyway.
    """
    mode = os.O_RDWR if exclusive or sys.platform == "win32" else os.O_RDONLY
    descriptor = os.open(f"{path}.lock", mode | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            if not exclusive:
                msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if not needed and error.errno in _NO_LOCKS_HERE:
            if exclusive:
                say(f"{path} has no file locks: do not start it twice at once while it is made")
            return descriptor
        os.close(descriptor)
        return None
    return descriptor
