"""The runs below the outputs, as pages name and list them: "robot-20260101-120000", or
"batch-1/robot" for one of a batch. A name is only ever looked up, never followed: no part of it may
lead out, and none may be a link."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path, PurePath

from orchestrator.errors import KissError
from orchestrator.record.result_folder import REPORT_HTML, RESULT_FILES, THUMBNAIL_JPG
from orchestrator.record.run_directory import MANIFEST, RESULT, RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.system.inside import Inside

_DEEPEST = 2
"""outputs/<run> and outputs/<batch>/<run>."""


@dataclass(frozen=True)
class Card:
    """A run as the gallery shows it. thumbnail, report, mesh: whether there is one"""

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
    source = manifest.input.source.replace("\\", "/")
    return Card(
        name,
        PurePath(source).name,
        state_now(run),
        manifest.profile,
        time.strftime("%d %b %H:%M", time.localtime(manifest.created)),
        manifest.wall_seconds,
        manifest.error,
        THUMBNAIL_JPG in there,
        REPORT_HTML in there,
        RESULT_FILES["glb"] in there,
    )


def cards(root: Path, most: int) -> list[Card]:
    found = (card(root, name) for name in newest(root, most))
    return [one for one in found if one is not None]
