"""A child never outlives its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

EXIT_ORPHANED = 70
_PR_SET_PDEATHSIG = 1


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
