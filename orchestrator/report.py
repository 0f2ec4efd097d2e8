"""What a person gets at the end: the result folder, the table of nodes and the summary."""

from __future__ import annotations

import contextlib
import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.artifacts import RESULT, RunDirectory
from orchestrator.errors import RunRecordError
from orchestrator.locks import BATCH_FILE, in_use
from orchestrator.manifest import AttemptRow, NodeRecord
from orchestrator.preview import BUNDLES, UNDRAWABLE, PreviewSheet

RESULT_FILES = {"glb": "mesh.glb", "obj": "mesh.obj"}
BUNDLE_PNG = "bundle.png"
PREVIEW_PNG = "preview.png"
RESULT_NAMES = (*RESULT_FILES.values(), BUNDLE_PNG, PREVIEW_PNG)


def write_result(run: RunDirectory, sheet: PreviewSheet) -> None:
    """Make <run>/result/ anew from the nodes that are done: meshes, bundle.png, preview.png."""
    written = {
        artifact: name
        for name, record in run.manifest.nodes.items()
        if record.state == "done"
        for artifact in record.artifacts
    }
    if not written and not (run.path / RESULT).is_dir():
        return
    run.inside.make_folder(RESULT)
    try:
        _fill(run, written, sheet)
    finally:
        run.inside.sync_folder(RESULT)
        run.inside.sync_folder()


def _fill(run: RunDirectory, written: Mapping[str, str], sheet: PreviewSheet) -> None:
    """written: artifact name -> the node that wrote it."""
    for stale in RESULT_NAMES:
        run.inside.remove(f"{RESULT}/{stale}")
    for artifact, target in RESULT_FILES.items():
        if artifact in written:
            node = written[artifact]
            file = run.manifest.nodes[node].artifacts[artifact][0].file
            with run.inside.read(f"{node}/{file}") as source:
                run.inside.copy(source, f"{RESULT}/{target}", durable=True)
    bundle = next((name for name in BUNDLES if name in written), None)
    if bundle:
        with (
            contextlib.suppress(FileNotFoundError),
            run.inside.read(f"{written[bundle]}/{bundle}.png") as source,
        ):
            run.inside.copy(source, f"{RESULT}/{BUNDLE_PNG}", durable=True)
    try:
        content = sheet.png(written)
    except UNDRAWABLE as error:
        run.event("no preview", error=str(error))
        return
    if content:
        run.inside.write(f"{RESULT}/{PREVIEW_PNG}", content)


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


def format_size(value: int) -> str:
    if value <= 0:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 1 << 30 else f"{value / 2**20:.0f} MiB"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain aligned table for logs and pipes."""
    widths = [max(_columns(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _columns(text: str) -> int:
    """How wide a text is in a font of fixed width: letters of East Asia take two columns."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


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
    return {
        "run": str(run.path.resolve()),
        "input": manifest.input.source,
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
