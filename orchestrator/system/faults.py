"""Errors that no place has words for, told as the others are: never by a traceback."""

from __future__ import annotations

import errno
import os
import traceback

from orchestrator.errors import KissError
from orchestrator.system.limits import memory_limit
from orchestrator.system.terminal import say

DEBUG = "KISS3D_DEBUG"
"""Environment variable: not empty, and the traceback is shown as well."""
_HINTS = {
    errno.EMFILE: "raise the limit: ulimit -n 1024",
    errno.ENFILE: "the whole system has too many open files: close other programs",
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space",
    errno.ENOMEM: "close other programs",
}


def as_told(error: BaseException) -> KissError:
    """What happened, and what to do: the machine is short of something, or this program is wrong"""
    if os.environ.get(DEBUG):
        say("".join(traceback.format_exception(error)), err=True)
    if limit := memory_limit():  # whatever could not be loaded or allocated, that is why
        return KissError(
            f"at most {limit >> 20} MiB of memory may be used here, which is not enough",
            "raise the limit: ulimit -v unlimited -d unlimited",
        )
    if isinstance(error, MemoryError):
        return KissError("there is not enough memory", "close other programs")
    if isinstance(error, OSError) and error.errno:
        where = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno, f"{DEBUG}=1 shows where")
        return KissError(f"{where}{error.strerror}", hint)
    return KissError(
        f"unexpected: {type(error).__name__}: {error}",
        f"a fault of this program; {DEBUG}=1 shows where, for a report",
    )
