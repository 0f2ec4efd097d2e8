"""What a run is doing now, kept for pages that ask: fed by the thread that listens to its worker,
read by those that serve."""

from __future__ import annotations

import threading
from dataclasses import replace

from orchestrator.api.work import Decided
from orchestrator.running.progress_rows import Row
from orchestrator.running.run_events import RunEvent
from orchestrator.running.time_left import TimeLeft, in_words


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
                self._rows[event.node] = row.after(event)
                if event.kind == "failed":
                    text = f"{row.node}: {event.fields['message']}"
                    self.troubles = [*self.troubles, text][-5:]

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
