"""All shards of a batch as one: who watches it sees what a batch of one machine would show.

Writes DIR/events.jsonl, a line for each thing that happened in any shard, in the order in which the
driver heard of it: what the runs' own events.jsonl say, with `shard`, `host` and `job`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.api.ray_events import Row
from orchestrator.record.run_directory import EVENTS
from orchestrator.running.run_events import Observer, RunEvent
from orchestrator.system.inside import Inside

PICTURES = "pictures"
"""Kind of an event that tells how many are through: total, good, failed."""
SHARD = "shard"
"""Kind of an event that tells of a shard in words: text."""
_OWN = ("stopping",)
"""What each shard tells and the driver says once, for all."""


class Whole:
    """Counts the pictures of all shards, and tells an observer.

    nodes    names of the graph's nodes: a picture is through when it is through all of them
    names    all pictures of the batch; good: those that earlier starts have finished
    """

    def __init__(
        self,
        path: Path,
        nodes: Iterable[str],
        names: Collection[str],
        good: Collection[str],
        observer: Observer,
    ) -> None:
        self._inside = Inside(path)
        self._nodes = frozenset(nodes)
        self._total = len(names)
        self._good = set(good)
        self._failed: set[str] = set()
        self._done: dict[str, set[str]] = {}
        self._observer = observer
        self._told = (0, 0)

    @property
    def left(self) -> int:
        """Pictures that are not through."""
        return self._total - len(self._good) - len(self._failed)

    def hear(self, rows: Sequence[Row]) -> None:
        """What shards have told."""
        self._write([row for row in rows if row["event"] != "progress"])
        for row in rows:
            event = RunEvent(row["event"], row["job"], row["node"], row["fields"])
            if self._is_news(event):
                self._observer.notify(event)
        self._tell_counts()

    def shard_ended(self, shard: str, host: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The outcomes of a shard, which are right whatever was heard of it."""
        for row in rows:
            good = row["state"] == "done"
            self._settle(str(row["name"]), good)
        good = sum(row["state"] == "done" for row in rows)
        self.say(f"shard {shard} on {host}: {good} of {len(rows)} good", shard, host)
        self._tell_counts()

    def say(self, text: str, shard: str = "", host: str = "") -> None:
        """Something of a shard in words, or of all of them."""
        fields = {"text": text}
        row = {"time": round(time.time(), 4), "shard": shard, "host": host, "event": SHARD}
        self._write([{**row, "job": "", "node": "", "fields": fields}])
        self._observer.notify(RunEvent(SHARD, "", "", fields))

    def stopping(self) -> None:
        self._observer.notify(RunEvent("stopping", "", ""))

    def _is_news(self, event: RunEvent) -> bool:
        """Count an event; whether it is shown. A shard that begins anew tells again of nodes that
        it had finished."""
        if event.kind in ("done", "reused"):
            done = self._done.setdefault(event.job, set())
            if event.node in done:
                return False
            done.add(event.node)
            if done >= self._nodes:
                self._settle(event.job, True)
        elif event.kind == "failed" and event.fields.get("final"):
            self._settle(event.job, False)
        return event.kind not in _OWN

    def _settle(self, name: str, good: bool) -> None:
        (self._good if good else self._failed).add(name)
        (self._failed if good else self._good).discard(name)

    def _tell_counts(self) -> None:
        counts = (len(self._good), len(self._failed))
        if counts != self._told:
            self._told = counts
            fields = {"total": self._total, "good": counts[0], "failed": counts[1]}
            self._observer.notify(RunEvent(PICTURES, "", "", fields))

    def _write(self, rows: Sequence[Row]) -> None:
        """A full disk must not end the batch here."""
        lines = []
        for row in rows:
            plain = {key: value for key, value in row.items() if key != "fields"}
            lines.append(json.dumps({**row["fields"], **plain}, default=str) + "\n")
        if lines:
            with contextlib.suppress(OSError):
                self._inside.append(EVENTS, "".join(lines).encode())
