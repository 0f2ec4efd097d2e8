"""What a child needs to find its parent: written by the parent, read by the child."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Connection:
    """Kept in a file of mode 0600 in a 0700 folder, until the child has connected.

    endpoint           where the parent listens: see `stages.process.wire.connect`
    identity           the child's name
    token              by which each knows the other; in no argument and no environment variable
    orchestrator_pid   the parent (on Linux its guard), whose death ends the child
    started            time.monotonic() of the parent when it asked for the process
    """

    endpoint: str
    identity: str
    token: str
    stage: str
    orchestrator_pid: int
    inline_max_bytes: int
    heartbeat_interval: float
    started: float

    def save(self, path: Path) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(asdict(self), stream)

    @classmethod
    def load(cls, path: Path) -> Connection:
        return cls(**json.loads(path.read_text()))
