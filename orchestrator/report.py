"""What a person gets at the end: the result folder, the preview picture and the table of nodes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.artifacts import RESULT, RunDirectory
from orchestrator.files import link_or_copy, write_atomic
from orchestrator.manifest import AttemptRow, NodeRecord

if TYPE_CHECKING:
    from PIL import Image

RESULT_FILES = {"glb": "mesh.glb", "obj": "mesh.obj"}
_TILE = 256
_MARGIN = 22
_INK = (60, 60, 60)


def write_result(run: RunDirectory) -> None:
    """Fill <run>/result/ with what there is: meshes, bundle.png, preview.png."""
    written = {
        artifact: name
        for name, record in run.manifest.nodes.items()
        if record.state == "done"
        for artifact in record.artifacts
    }
    if not written:
        return
    folder = run.path / RESULT
    folder.mkdir(exist_ok=True)
    for artifact, target in RESULT_FILES.items():
        if artifact in written:
            link_or_copy(run.artifact_paths(written[artifact], artifact)[0], folder / target)
    bundle = next((name for name in ("bundle", "reference_bundle") if name in written), None)
    if bundle:
        png = run.path / written[bundle] / f"{bundle}.png"
        if png.is_file():
            link_or_copy(png, folder / "bundle.png")
    with contextlib.suppress(OSError):
        content = _preview(run, written, bundle)
        if content:
            write_atomic(folder / "preview.png", content, durable=False)


def _preview(run: RunDirectory, written: dict[str, str], bundle: str | None) -> bytes:
    """The input, the 4 RGB and 4 normal views, and the final mesh from 4 azimuths, as one PNG."""
    from PIL import Image, ImageDraw

    rows: list[tuple[str, list[Image.Image]]] = []
    if bundle and (png := run.path / written[bundle] / f"{bundle}.png").is_file():
        rows += zip(("views", "normals"), _bundle_tiles(png), strict=True)
    elif "views" in written and (png := run.path / written["views"] / "views.png").is_file():
        rows.append(("views", _row_tiles(png)))
    if "renders" in written and (png := run.path / written["renders"] / "renders.png").is_file():
        rows.append(("mesh", _row_tiles(png)))
    picture = run.path / "preprocess" / "image.png"
    if not rows and not picture.is_file():
        return b""
    height = max(1, len(rows)) * (_TILE + _MARGIN)
    sheet = Image.new("RGB", (5 * _TILE, height), "white")
    draw = ImageDraw.Draw(sheet)
    if picture.is_file():
        with Image.open(picture) as image:
            sheet.paste(image.convert("RGB").resize((_TILE, _TILE)), (0, _MARGIN))
    draw.text((6, 5), "input", fill=_INK)
    for index, (label, tiles) in enumerate(rows):
        top = index * (_TILE + _MARGIN)
        for column, (tile, side) in enumerate(
            zip(tiles, ("front", "left", "back", "right"), strict=True), start=1
        ):
            sheet.paste(tile.resize((_TILE, _TILE)), (column * _TILE, top + _MARGIN))
            draw.text((column * _TILE + 6, top + 5), f"{label}: {side}", fill=_INK)
    buffer = io.BytesIO()
    sheet.save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def _bundle_tiles(png: Path) -> Iterator[list[Image.Image]]:
    from PIL import Image

    with Image.open(png) as opened:
        image = opened.convert("RGB")
    side = image.height // 2
    for row in range(2):
        yield [
            image.crop((c * side, row * side, (c + 1) * side, (row + 1) * side)) for c in range(4)
        ]


def _row_tiles(png: Path) -> list[Image.Image]:
    from PIL import Image

    with Image.open(png) as opened:
        image = opened.convert("RGB")
    side = image.height
    return [image.crop((c * side, 0, (c + 1) * side, side)) for c in range(4)]


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
    return [_table_row(name, record) for name, record in run.manifest.nodes.items()]


def _table_row(name: str, record: NodeRecord) -> tuple[str, ...]:
    if record.state == "done" and (record.cached_from or not record.attempts):
        return (name, "cached", *("",) * (len(TABLE_HEADER) - 2))
    if not record.attempts:
        return (name, record.state, *("",) * (len(TABLE_HEADER) - 2))
    last = record.attempts[-1]
    state = (
        record.state
        if len(record.attempts) == 1
        else f"{record.state} (attempt {len(record.attempts)})"
    )
    if record.degraded:
        state += f", degraded: {record.degraded}"
    if record.state == "failed":
        state = f"failed: {last.outcome}"
    peak = last.vram.get("peak", -1)
    return (
        name,
        state,
        f"{last.device}{' warm' if last.warm else ' cold'}",
        f"{last.seconds:.2f}",
        f"{last.timings.get('import', 0.0) + last.timings.get('load', 0.0):.2f}",
        f"{last.timings.get('compute', 0.0):.2f}",
        format_size(last.peak_rss),
        format_size(peak),
        str(last.vram.get("verdict", "")),
    )


def format_size(value: int) -> str:
    if value <= 0:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 1 << 30 else f"{value / 2**20:.0f} MiB"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain aligned table for logs and pipes."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


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
        "error": manifest.error,
        "degraded": manifest.degraded,
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
