"""Where a command's processes live: a private folder and, where it can work, a warm template.

Opened as the first thing that a command does, so that the template's interpreter boots while the
parent is still reading its configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import warm
from orchestrator.limits import require_room
from orchestrator.private_folders import claimed, sweep_private_folders, unclaimed_folder


@dataclass(frozen=True)
class Workplace:
    """folder: private (0700); template: None where processes start cold, for `cold_reason`."""

    folder: Path
    template: warm.WarmTemplate | None
    cold_reason: str


@contextlib.contextmanager
def open_workplace(use_warm: bool = True) -> Iterator[Workplace]:
    """A workplace that is gone, template and folder, when the context ends."""
    require_room()
    cold_reason = warm.supported() if use_warm else "--no-warm"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(unclaimed_folder())
        template = None
        if not cold_reason:  # before anything else: the template's boot is what a run waits for
            template = warm.WarmTemplate(folder / "template.log")
            stack.callback(template.close)
        stack.enter_context(claimed(folder))
        sweep_private_folders()
        yield Workplace(folder, template, cold_reason)
