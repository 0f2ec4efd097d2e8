"""How the driver hears of all shards: what tasks tell goes to one actor, which the driver asks.

    task ── rows ──> Ear, beside the driver <── the driver takes what has come

A row is a `RunEvent` with its time, shard and host. Rows go together, twice a second at most, and
of progress the last word alone. Nothing waits for the Ear: without it shards work on, unseen.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from orchestrator.running.run_events import RunEvent

Row = dict[str, Any]
"""{"time", "shard", "host", "event", "job", "node", ...} and the event's own fields."""
SEND_SECONDS = 0.5
_TAKE_SECONDS = 5.0


class Ear:
    """The actor: keeps what it is told until it is asked."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def hear(self, rows: list[Row]) -> None:
        self._rows += rows

    def take(self) -> list[Row]:
        taken, self._rows = self._rows, []
        return taken


class Teller:
    """In a task: gathers what happens and sends it. ear: the actor, None: nobody hears.

    full      pictures that failed because a disk was full
    renamed   a folder as it is called here, and where the user will find it
    """

    def __init__(self, ear: Any, shard: str) -> None:
        self._ear = ear
        self.renamed: tuple[str, str] | None = None
        self._alike = {"shard": shard, "host": socket.gethostname()}
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._progress: dict[tuple[str, str], Row] = {}
        self._sent = 0.0
        self.full: set[str] = set()

    def notify(self, event: RunEvent) -> None:
        if event.kind == "failed" and event.fields.get("kind") == "disk_full":
            self.full.add(event.job)
        if self._ear is None:
            return
        row = {
            "time": round(time.time(), 4),
            **self._alike,
            "event": event.kind,
            "job": event.job,
            "node": event.node,
            "fields": {name: self._named(value) for name, value in event.fields.items()},
        }
        with self._lock:
            if event.kind == "progress":
                self._progress[event.job, event.node] = row
            else:
                self._progress.pop((event.job, event.node), None)
                self._rows.append(row)

    def _named(self, value: Any) -> Any:
        return value.replace(*self.renamed) if self.renamed and isinstance(value, str) else value

    def send(self, last: bool = False) -> None:
        """Send what has come since. last: wait until it has been heard, as this process ends."""
        if self._ear is None or (not last and time.monotonic() < self._sent + SEND_SECONDS):
            return
        with self._lock:
            rows = [*self._rows, *self._progress.values()]
            self._rows, self._progress = [], {}
        self._sent = time.monotonic()
        if not rows:
            return
        with contextlib.suppress(Exception):  # the driver's end, or its node's
            heard = self._ear.hear.remote(rows)
            if last:
                import ray

                ray.get(heard, timeout=_TAKE_SECONDS)


class Hearing:
    """The driver's side."""

    def __init__(self, ray: Any) -> None:
        from orchestrator.api.ray_cluster import on_node

        self._ray = ray
        here = on_node(ray.get_runtime_context().get_node_id())
        kind = ray.remote(num_cpus=0, max_restarts=0)(Ear)
        self.ear: Any = kind.options(scheduling_strategy=here).remote()

    def take(self) -> list[Row]:
        """What has come since; nothing where the actor is gone."""
        try:
            rows: list[Row] = self._ray.get(self.ear.take.remote(), timeout=_TAKE_SECONDS)
        except self._ray.exceptions.RayError:
            return []
        return rows
