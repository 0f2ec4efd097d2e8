"""The table of nodes that a person gets at the end of a run."""

from __future__ import annotations

import itertools

from orchestrator.record.manifest import NodeRecord
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system.text import format_size

TABLE_HEADER = (
    "node",
    "state",
    "on",
    "wall s",
    "load s",
    "compute s",
    "peak RSS",
    "VRAM",
    "memory",
)


def table_rows(run: RunDirectory) -> list[tuple[str, ...]]:
    """One row a node, as text, for the table at the end of a run."""
    return [table_row(name, record) for name, record in run.manifest.nodes.items()]


def table_row(name: str, record: NodeRecord) -> tuple[str, ...]:
    """A node's cells below `TABLE_HEADER`."""
    if record.state == "done" and (record.cached_from or not record.attempts):
        return (name, "cached", *("",) * (len(TABLE_HEADER) - 2))
    if not record.attempts:
        return (name, record.state, *("",) * (len(TABLE_HEADER) - 2))
    last = record.attempts[-1]
    tries = _tries(record)
    state = record.state if tries == 1 else f"{record.state} (attempt {tries})"
    if record.degraded:
        state += f", degraded: {record.degraded}"
    if record.state == "failed":
        state = f"failed: {last.outcome}"
    peak = last.vram.get("peak", -1)
    peak = peak if isinstance(peak, int) else -1
    verdict = str(last.vram.get("verdict", ""))
    return (
        name,
        state,
        f"{last.device}{' warm' if last.warm else ' cold'}",
        f"{last.seconds:.2f}",
        f"{last.timings.get('import', 0.0) + last.timings.get('load', 0.0):.2f}",
        f"{last.timings.get('compute', 0.0):.2f}",
        format_size(last.peak_rss),
        format_size(peak),
        "-" if verdict == "no gpu used" else verdict,
    )


def _tries(record: NodeRecord) -> int:
    """How often the node was tried since it was last done: computing it again is no retry."""
    earlier = itertools.takewhile(lambda row: row.outcome != "done", record.attempts[-2::-1])
    return 1 + sum(1 for _ in earlier)
