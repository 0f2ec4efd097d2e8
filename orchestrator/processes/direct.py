"""Processes that the parent starts itself: where there is no guard, or none any more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.processes.environment import child_environment
from orchestrator.processes.handle import StageProcess


@dataclass
class _Child:
    process: StageProcess
    popen: subprocess.Popen[bytes]
    pidfd: int = -1


class DirectLauncher:
    """Children of this process, each the head of a group of its own.

    watch, unwatch  add and remove a descriptor that wakes whoever calls `collect`
    """

    def __init__(self, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        self._watch = watch
        self._unwatch = unwatch
        self._children: list[_Child] = []

    def start(self, process: StageProcess, command: Sequence[str]) -> None:
        """Start `command` as this process. Raises OSError."""
        with process.log.open("ab") as stream:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**child_environment(), **process.environment},
                start_new_session=True,
            )
        process.pid = popen.pid
        child = _Child(process, popen)
        self._children.append(child)
        # Python may have the call where the kernel or a sandbox does not: `collect` polls then.
        with contextlib.suppress(OSError, AttributeError):
            child.pidfd = os.pidfd_open(popen.pid)
            self._watch(child.pidfd)

    @property
    def lives(self) -> bool:
        return bool(self._children)

    @property
    def must_poll(self) -> bool:
        """Whether some end wakes nobody, the system having no pidfd."""
        return any(child.pidfd < 0 for child in self._children)

    def collect(self) -> None:
        """Set the exit code of those that have ended. Does not block."""
        for child in list(self._children):
            child.process.exit_code = child.popen.poll()
            if child.process.exit_code is not None:
                self._children.remove(child)
                self._bury(child)

    def _bury(self, child: _Child) -> None:
        if hasattr(os, "killpg"):
            # Helpers that the stage started and left behind would keep their memory, on the card
            # too. While one lives the group's number is taken, so it can be nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.popen.pid, signal.SIGKILL)
        if child.pidfd >= 0:
            self._unwatch(child.pidfd)
            os.close(child.pidfd)
