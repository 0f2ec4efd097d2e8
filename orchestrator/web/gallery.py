"""The runs below the outputs, as pages name and list them: "robot-20260101-120000", or
"batch-1/robot" for one of a batch. A name is only ever looked up, never followed: no part of it may
lead out, and none may be a link."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from orchestrator.commands.subject import PICTURE
from orchestrator.errors import KissError
from orchestrator.record.manifest import InputRecord, Manifest
from orchestrator.record.result_folder import REPORT_HTML, RESULT_FILES, THUMBNAIL_JPG
from orchestrator.record.run_directory import MANIFEST, RESULT, RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.running.progress_rows import Row
from orchestrator.system.inside import Inside

_DEEPEST = 2
"""outputs/<run> and outputs/<batch>/<run>."""


@dataclass(frozen=True)
class Card:
    """A run as its record has it.

    thumbnail, report, mesh, given  whether there is one; given: a picture that it was given
    notes  (what it is, stage, text) of what its stages warned of, and of what results lack
    rows   its stages; empty where it has not begun
    """

    name: str
    picture: str
    state: str
    profile: str
    when: str
    seconds: float
    error: str
    thumbnail: bool
    report: bool
    mesh: bool
    given: bool = False
    notes: tuple[tuple[str, str, str], ...] = ()
    rows: tuple[Row, ...] = field(default=(), repr=False)


def is_run(root: Path, name: str) -> bool:
    """Whether a run of this name lies below the root, reached past no link."""
    parts = name.split("/")
    if not 1 <= len(parts) <= _DEEPEST or any(part in ("", ".", "..") for part in parts):
        return False
    if any(sign in name for sign in "\\\0:"):
        return False
    try:
        with Inside(root).read(f"{name}/{MANIFEST}"):
            return True
    except (OSError, ValueError):
        return False


def newest(root: Path, most: int) -> list[str]:
    """Names of the runs that changed last, newest first."""
    found: list[tuple[float, str]] = []
    for folder in _folders(root, ""):
        found += _dated(root, folder)
        for inner in _folders(root, folder):
            found += _dated(root, inner)
    found.sort(reverse=True)
    return [name for _, name in found[:most]]


def _folders(root: Path, folder: str) -> list[str]:
    """Names of the folders in a folder; no links, nothing hidden."""
    try:
        with os.scandir(root / folder) as entries:
            return [
                f"{folder}/{entry.name}" if folder else entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _dated(root: Path, name: str) -> list[tuple[float, str]]:
    with contextlib.suppress(OSError):
        return [((root / name / MANIFEST).lstat().st_mtime, name)]
    return []


def card(root: Path, name: str) -> Card | None:
    """What the gallery says of a run; None for one that cannot be read, or is none."""
    if not is_run(root, name):
        return None
    try:
        run = RunDirectory.open(root / name)
    except KissError:
        return None
    manifest = run.manifest
    there = {entry.name for entry in run.inside.entries(RESULT) if entry.is_file}
    state = state_now(run)
    return Card(
        name,
        _title(manifest.input),
        state,
        manifest.profile,
        time.strftime("%d %b %H:%M", time.localtime(manifest.created)),
        manifest.stage_seconds,
        manifest.error,
        THUMBNAIL_JPG in there,
        REPORT_HTML in there,
        RESULT_FILES["glb"] in there,
        PICTURE in manifest.given,
        _notes(manifest),
        _rows(manifest, state),
    )


def _title(given: InputRecord) -> str:
    """A file's name, or the words."""
    return PurePath(given.source.replace("\\", "/")).name or given.title


def _notes(manifest: Manifest) -> tuple[tuple[str, str, str], ...]:
    lacks = [("degraded", node, text) for node, text in manifest.degraded.items()]
    warned = [
        ("warning", node, text) for node, texts in manifest.warnings.items() for text in texts
    ]
    return (*lacks, *warned)


def _rows(manifest: Manifest, state: str) -> tuple[Row, ...]:
    """The stages as the record has them. A killed process leaves "running" behind."""
    found = []
    for name, node in manifest.nodes.items():
        last = node.attempts[-1] if node.attempts else None
        told: str = node.state
        if told == "running" and state != "running":
            told = "interrupted"
        elif told == "done" and node.cached_from:
            told = "cached"
        elif told == "pending":
            told = "waiting"
        found.append(
            Row(
                name,
                told,
                attempt=max(1, len(node.attempts)),
                seconds=last.seconds if last else 0.0,
                rss=last.peak_rss if last else 0,
            )
        )
    began = any(row.state != "waiting" for row in found)
    return tuple(found) if began else ()


def cards(root: Path, most: int) -> list[Card]:
    found = (card(root, name) for name in newest(root, most))
    return [one for one in found if one is not None]
