"""What the runner tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class RunEvent:
    """One thing that happened.

    kind    process, started, progress, done, reused, warning, failed, gone, stopping
    job     the job's name, "" for what concerns a process as such, or the whole run
    """

    kind: str
    job: str
    node: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """Something that shows events; must return quickly."""

    def notify(self, event: RunEvent) -> None: ...
