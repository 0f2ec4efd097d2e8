"""Where a command's processes live: a private folder, and on Linux a guard with a warm template.

Opened as the first thing that a command does, so that the template's interpreter boots while the
parent is still reading its configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.processes import environment
from orchestrator.processes.guard import END_SECONDS, GuardLink, works_here
from orchestrator.system.limits import require_room
from orchestrator.system.private_folders import (
    claimed,
    remove,
    sweep_private_folders,
    unclaimed_folder,
)
from orchestrator.system.stop_signals import STOP

_HURRY_SECONDS = 0.1


@dataclass(frozen=True)
class Workspace:
    """folder: private (0700); guard: who starts the processes, None where the parent itself does;
    cold_reason: why processes start cold, or ""; use_warm: whether warm starts were asked for."""

    folder: Path
    guard: GuardLink | None
    cold_reason: str
    use_warm: bool = True


@contextlib.contextmanager
def open_workspace(use_warm: bool = True) -> Iterator[Workspace]:
    """A workspace that is gone, processes and folder, when the context ends."""
    require_room()
    cold_reason = environment.supported() if use_warm else "--no-warm"
    with contextlib.ExitStack() as stack:
        with STOP.deferred():
            folder = stack.enter_context(unclaimed_folder())
            guard = None
            if works_here():  # first of all: the template's boot is what a run waits for
                log = stack.enter_context((folder / "template.log").open("ab"))
                guard = stack.enter_context(_guarded(folder, not cold_reason, log))
        stack.enter_context(claimed(folder))
        sweep_private_folders()
        yield Workspace(folder, guard, cold_reason, use_warm)


@contextlib.contextmanager
def _guarded(folder: Path, warm: bool, log: IO[bytes]) -> Iterator[GuardLink]:
    """A guard that is gone, with all that it started, when the context or the program ends."""
    guard = GuardLink(folder, warm, log)

    def end_by_force() -> None:
        guard.end_by_force()
        remove(folder)

    with STOP.last_act(end_by_force):
        try:
            yield guard
        finally:
            guard.close(_HURRY_SECONDS if STOP.count > 1 else END_SECONDS)
