"""Limits of the system (`ulimit`) below which libraries end the whole program without a word."""

from __future__ import annotations

import sys

from orchestrator.errors import KissError

_OPEN_FILES = 64
"""A run has 24 open, and a card, a log or a library's file takes some more."""
_MEMORY = 512 << 20
"""Address space: the parent's own libraries map 400 MiB; a stage says itself what it lacks."""


def require_room() -> None:
    """Raise the limit of open files where that is allowed. Raises `KissError` for what is too low:
    Libraries abort where they get no socket, thread or memory."""
    if memory := memory_limit():
        raise KissError(
            f"at most {memory >> 20} MiB of memory may be used here, and a run needs more than "
            f"{_MEMORY >> 20}",
            "raise the limit: ulimit -v unlimited -d unlimited",
        )
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < _OPEN_FILES:
        raise KissError(
            f"at most {hard} files may be open at once here, and a run needs {_OPEN_FILES}",
            "raise the limit: ulimit -n 1024; if the shell refuses that, the hard limit has to be "
            "raised first: /etc/security/limits.conf, or LimitNOFILE of a service",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))


def memory_limit() -> int:
    """Bytes of memory that this process may map, or 0 where that is enough for a run."""
    if sys.platform == "win32":
        return 0
    import resource

    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    low = [limit for limit in limits if limit != resource.RLIM_INFINITY and limit < _MEMORY]
    return min(low, default=0)
