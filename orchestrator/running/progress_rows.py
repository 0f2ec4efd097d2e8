"""Where a run's nodes stand, as its events tell it: what the terminal and the page show."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from orchestrator.running.run_events import RunEvent


@dataclass(frozen=True)
class Row:
    """One node.

    done, failed  how many jobs have ended there so
    began         time.monotonic() of its present attempt; seconds: of those that were done
    vram, rss     bytes; -1 or 0: none
    left          how long it still takes, in words
    """

    node: str
    state: str = "waiting"
    done: int = 0
    failed: int = 0
    step: int = 0
    total: int = 0
    note: str = ""
    attempt: int = 1
    began: float = 0.0
    seconds: float = 0.0
    rss: int = 0
    vram: int = -1
    left: str = ""

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began if self.state == "running" else self.seconds

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        if self.state in ("done", "cached"):
            return 1.0
        return self.step / self.total if self.state == "running" and self.total else 0.0

    def after(self, event: RunEvent) -> Row:
        """The row as an event of its node leaves it."""
        fields = event.fields
        if event.kind == "started":
            now, attempt = time.monotonic(), fields["attempt"]
            return replace(
                self, state="running", step=0, total=0, note="", attempt=attempt, began=now
            )
        if event.kind == "progress":
            told = {key: fields[key] for key in ("step", "total", "note", "rss", "vram")}
            return replace(self, **told)
        if event.kind in ("done", "reused"):
            return replace(
                self,
                state="done" if event.kind == "done" else "cached",
                done=self.done + 1,
                seconds=self.seconds + fields.get("seconds", 0.0),
                rss=fields.get("rss", self.rss),
                vram=fields.get("vram", self.vram),
                note="",
            )
        if event.kind == "failed":
            final = bool(fields.get("final"))
            state = "failed" if final else "retrying"
            return replace(self, state=state, failed=self.failed + final, note="")
        if event.kind == "process" and self.state == "waiting":
            return replace(self, state="ready" if fields.get("state") == "idle" else "starting")
        return self
