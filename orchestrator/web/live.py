"""What a run is doing now, kept for pages that ask: fed by the thread that listens to its worker,
read by those that serve."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from orchestrator.api.work import Decided
from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft, in_words


@dataclass(frozen=True)
class Row:
    """One stage. began: time.monotonic() of its present attempt; vram, rss: bytes, -1 or 0: none"""

    node: str
    state: str = "waiting"
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


class Progress:
    """One run's rows and the time that is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._left: TimeLeft | None = None
        self.troubles: list[str] = []

    def decided(self, decided: Decided) -> None:
        with self._lock:
            self._rows = {name: Row(name) for name in decided.nodes}
            self._left = TimeLeft(decided.nodes, decided.jobs, decided.expected)

    def hear(self, event: RunEvent) -> None:
        with self._lock:
            if self._left is not None:
                self._left.hear(event)
            row = self._rows.get(event.node)
            if row is not None:
                self._rows[event.node] = self._after(row, event)

    def _after(self, row: Row, event: RunEvent) -> Row:
        fields = event.fields
        if event.kind == "started":
            attempt, now = fields["attempt"], time.monotonic()
            return Row(row.node, "running", attempt=attempt, began=now, seconds=row.seconds)
        if event.kind == "progress":
            return replace(
                row,
                step=fields["step"],
                total=fields["total"],
                note=fields["note"],
                rss=fields["rss"],
                vram=fields["vram"],
            )
        if event.kind in ("done", "reused"):
            return replace(
                row,
                state="done" if event.kind == "done" else "cached",
                seconds=fields.get("seconds", 0.0),
                rss=fields.get("rss", row.rss),
                vram=fields.get("vram", row.vram),
                note="",
            )
        if event.kind == "failed":
            self.troubles = [*self.troubles, f"{row.node}: {fields['message']}"][-5:]
            return replace(row, state="failed" if fields.get("final") else "trying again", note="")
        if event.kind == "process" and row.state == "waiting":
            return replace(row, state="starting")
        return row

    def rows(self) -> tuple[list[Row], str]:
        """The rows, and the time that is left in words ("-": nobody knows)."""
        with self._lock:
            left = self._left
            if left is None:
                return [], "-"
            rows = [
                replace(row, left=in_words(left.of_node(row.node)))
                if row.state == "running"
                else row
                for row in self._rows.values()
            ]
            return rows, in_words(left.of_all())
