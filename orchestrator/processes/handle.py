"""One stage process, from the outside: who it is, its ends by force, and what is heard of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.process import protocol


@dataclass(eq=False)
class StageProcess:
    """A child that was asked for. `pid` is 0 until it exists, `exit_code` None until it is gone.

    environment  what the child gets on top of the parent's environment
    started      time.monotonic() when it was asked for
    doomed       told to die before it existed

    Only whoever launches it writes the rest:

    warm         forked from the template (else started cold, for `cold_reason`)
    unstarted    why it never came to exist, or ""
    """

    identity: str
    stage: str
    token: str = field(repr=False)
    connection: Path
    log: Path
    environment: Mapping[str, str]
    started: float
    warm: bool = False
    doomed: bool = False
    pid: int = 0
    exit_code: int | None = None
    cold_reason: str = ""
    unstarted: str = ""

    def terminate(self) -> None:
        """Ask the child's whole process group to end; quiet when it is gone already."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """End the group without asking, or the child before it exists."""
        self._signal_group(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal_group(self, number: int) -> None:
        if not self.pid:
            self.doomed = True
        if not self.pid or self.exit_code is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not hasattr(os, "killpg"):  # Windows, which has neither groups nor SIGKILL
                os.kill(self.pid, number)
                return
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:  # forked a moment ago, and not yet a group of its own
                os.kill(self.pid, number)


@dataclass(frozen=True)
class Spoke:
    """A child sent a message, with the contents of the small files that it hands over."""

    process: StageProcess
    message: protocol.Message
    contents: bytes


@dataclass(frozen=True)
class SpokeGarbage:
    """A child sent something that is not a message."""

    process: StageProcess
    error: str


@dataclass(frozen=True)
class Ended:
    """A child is reaped and `process.exit_code` set, or it will never exist (`unstarted`)."""

    process: StageProcess


Event = Spoke | SpokeGarbage | Ended
