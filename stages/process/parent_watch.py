"""A child never outlives its parent, and neither does a helper that a child has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection

EXIT_ORPHANED = 70
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def die_with_parent(expected_parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; end now if that has happened already.

    Elsewhere the heartbeat thread's parent watch does it, a quarter of a second later.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if not _is_parent(expected_parent):
        os._exit(EXIT_ORPHANED)


def _is_parent(pid: int) -> bool:
    if sys.platform == "win32":
        import psutil

        # The python.exe of a virtual environment is a launcher, which stands between the two.
        return bool(psutil.pid_exists(pid))
    return os.getppid() == pid


def adopt_orphans(adopt: bool = True) -> None:
    """Become the parent of every process below this one whose own parent ends (Linux only).

    However often it forks and whatever session it makes, none of them gets away then.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether this process is one that adopts them."""
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def children_of(parent: int) -> set[int]:
    """Pids of a process's children, those included that have ended and are not reaped (Linux)."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if int(_stat(int(name))[1]) == parent:
                found.add(int(name))
    return found


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, in the system's ticks of 10 ms or so; -1: it is gone."""
    try:
        fields = _stat(pid)
    except OSError:
        return -1
    return int(fields[11]) + int(fields[12])


def began(pid: int) -> int:
    """When a process began, in the same ticks since the system's start; -1: it is gone."""
    try:
        return int(_stat(pid)[19])
    except OSError:
        return -1


def _stat(pid: int) -> list[bytes]:
    """What /proc says of a process behind its name (which may hold anything): state, parent ..."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return stream.read().rpartition(b")")[2].split()


def kill_all(pids: Collection[int]) -> None:
    """SIGKILL to each; it ends stopped ones too."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
