"""Several runs side by side: their meshes and pictures, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.record.run_directory import RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.report import facts, page
from orchestrator.report.pictures import Shown, pictures_of
from orchestrator.report.run_page import MeshView, mesh_of, picture_name
from orchestrator.system.text import format_size

SCORES = (
    ("f_score", "higher is better"),
    ("precision", "higher is better"),
    ("recall", "higher is better"),
    ("normal_consistency", "higher is better"),
    ("chamfer_l1", "lower is better"),
    ("chamfer_l2", "lower is better"),
    ("to_truth", "lower is better"),
    ("from_truth", "lower is better"),
)


@dataclass(frozen=True)
class Side:
    """One run. scores: what `evaluate` says of its mesh; empty without a true one"""

    run: RunDirectory
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """One run as the page shows it."""

    name: str
    picture: str
    run: RunDirectory
    state: str
    command: str
    mesh: MeshView
    shown: Shown


@dataclass(frozen=True)
class ComparedRow:
    """One line of a table: what, and its value in each run."""

    what: str
    values: tuple[str, ...]
    note: str = ""


def comparison_html(sides: Sequence[Side], truth: str) -> bytes:
    """The page of these runs. truth: name of the true mesh, or ""."""
    columns = [_column(side.run) for side in sides]
    viewers = [column.mesh.viewer for column in columns if column.mesh.viewer]
    return page.render(
        "compare.html",
        viewers,
        title=", ".join(column.name for column in columns),
        columns=columns,
        truth=truth,
        scores=_scores(sides) if truth else [],
        facts=_facts(columns),
        seconds=_seconds(sides),
        differences=_differences(sides),
    )


def _column(run: RunDirectory) -> Column:
    return Column(
        run.path.resolve().name,
        picture_name(run),
        run,
        state_now(run),
        facts.again(run.manifest),
        mesh_of(run),
        pictures_of(run),
    )


def _scores(sides: Sequence[Side]) -> list[ComparedRow]:
    return [
        ComparedRow(
            name.replace("_", " "), tuple(_score(side.scores.get(name)) for side in sides), note
        )
        for name, note in SCORES
    ]


def _score(value: Any) -> str:
    return f"{value:.5f}" if isinstance(value, int | float) else "-"


def _facts(columns: Sequence[Column]) -> list[ComparedRow]:
    manifests = [column.run.manifest for column in columns]
    return [
        ComparedRow("picture", tuple(column.picture for column in columns)),
        ComparedRow("state", tuple(column.state for column in columns)),
        ComparedRow("profile", tuple(one.profile for one in manifests)),
        ComparedRow("seed", tuple(str(one.seed) for one in manifests)),
        ComparedRow("version", tuple(one.version for one in manifests)),
        ComparedRow("begun", tuple(facts.when(one.created) for one in manifests)),
        ComparedRow("faces", tuple(f"{c.mesh.faces:,}" if c.mesh.faces else "-" for c in columns)),
        ComparedRow("stages, seconds", tuple(f"{one.stage_seconds:.1f}" for one in manifests)),
        ComparedRow("most VRAM", tuple(_most_vram(column.run) for column in columns)),
        ComparedRow(
            "degraded", tuple("; ".join(one.degraded.values()) or "no" for one in manifests)
        ),
    ]


def _most_vram(run: RunDirectory) -> str:
    peaks = [
        row.vram.get("peak", -1) for node in run.manifest.nodes.values() for row in node.attempts
    ]
    return format_size(max((peak for peak in peaks if isinstance(peak, int)), default=-1))


def _seconds(sides: Sequence[Side]) -> list[ComparedRow]:
    """Seconds of each node's last attempt."""
    names = dict.fromkeys(name for side in sides for name in side.run.manifest.nodes)
    return [
        ComparedRow(name, tuple(_node_seconds(side.run, name) for side in sides)) for name in names
    ]


def _node_seconds(run: RunDirectory, name: str) -> str:
    record = run.manifest.nodes.get(name)
    if record is None:
        return "-"
    if record.state == "done" and (record.cached_from or not record.attempts):
        return "cached"
    return f"{record.attempts[-1].seconds:.2f}" if record.attempts else record.state


def _differences(sides: Sequence[Side]) -> list[ComparedRow]:
    """Settings that are not the same in all runs."""
    found = [
        {row.path: row.value for row in facts.settings_of(side.run.manifest)} for side in sides
    ]
    paths = dict.fromkeys(path for values in found for path in values)
    rows = [ComparedRow(path, tuple(values.get(path, "-") for values in found)) for path in paths]
    return [row for row in rows if len(set(row.values)) > 1]
