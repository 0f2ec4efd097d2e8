"""A run's state as it is now, and its facts for --json and summary files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from orchestrator.errors import RunRecordError
from orchestrator.record.manifest import AttemptRow, NodeRecord
from orchestrator.record.result_folder import REPORT_HTML
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.system.locks import BATCH_FILE, in_use


def state_now(run: RunDirectory) -> str:
    """The manifest's state, but "interrupted" for a run that says "running" and nobody works in.

    A killed process leaves such a manifest.
    """
    if run.manifest.state != "running" or _in_use(run.path):
        return run.manifest.state
    with contextlib.suppress(RunRecordError):  # it may have ended since the manifest was read
        state = RunDirectory.open(run.path).manifest.state
        return "interrupted" if state == "running" else state
    return "interrupted"


def _in_use(path: Path) -> bool:
    return in_use(path) or ((path.parent / BATCH_FILE).is_file() and in_use(path.parent))


def summary(run: RunDirectory) -> dict[str, Any]:
    """The facts of a finished run for --json and summary files."""
    manifest = run.manifest
    result = run.path.resolve() / RESULT
    report = result / REPORT_HTML
    return {
        "run": str(run.path.resolve()),
        "input": manifest.input.source or manifest.input.text,
        "state": manifest.state,
        "profile": manifest.profile,
        "profile_reason": manifest.profile_reason,
        "seed": manifest.seed,
        "seconds": round(manifest.wall_seconds, 3),
        "stage_seconds": round(manifest.stage_seconds, 3),
        "error": manifest.error,
        "degraded": manifest.degraded,
        "warnings": manifest.warnings,
        "result": {
            path.name: str(path)
            for path in sorted(result.glob("*"))
            if not path.name.startswith(".")
        },
        "not_exported": manifest.no_export,
        "report": str(report) if report.is_file() else "",
        "kept": manifest.kept,
        "nodes": {name: _node_summary(record) for name, record in manifest.nodes.items()},
    }


def _node_summary(record: NodeRecord) -> dict[str, Any]:
    last: AttemptRow | None = record.attempts[-1] if record.attempts else None
    return {
        "state": record.state,
        "cached_from": record.cached_from,
        "attempts": len(record.attempts),
        "seconds": round(last.seconds, 4) if last else 0.0,
        "timings": {k: round(v, 4) for k, v in last.timings.items()} if last else {},
        "peak_rss": last.peak_rss if last else 0,
        "vram": last.vram if last else {},
        "outcome": last.outcome if last else "",
        "message": last.message if last else record.reason,
    }
