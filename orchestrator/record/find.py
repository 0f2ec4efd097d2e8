"""All runs that there are below a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import NewerRecordError, RunRecordError
from orchestrator.record.run_directory import EVENTS, MANIFEST, OUTPUTS, RunDirectory
from orchestrator.system.locks import SHARDS_FILE


@dataclass(frozen=True)
class Unreadable:
    """A run directory whose run.json cannot be used, and why."""

    path: Path
    error: RunRecordError

    @property
    def state(self) -> str:
        return "newer" if isinstance(self.error, NewerRecordError) else "damaged"


def may_hold_runs(root: Path) -> bool:
    """A directory; outputs, which nobody has to make, need not be there yet."""
    return root.is_dir() or (root == Path(OUTPUTS) and not root.exists())


def find_runs(root: Path) -> tuple[list[RunDirectory], list[Unreadable]]:
    """All runs below a folder, oldest first, and those that cannot be opened.

    A folder counts as a run by its run.json, or where that is gone by its events.jsonl; that of a
    batch beside shards.json is none.
    """
    folders = {file.parent for name in (MANIFEST, EVENTS) for file in root.glob(f"**/{name}")}
    folders -= {folder for folder in folders if (folder / SHARDS_FILE).is_file()}
    found, unreadable = [], []
    for folder in sorted(folders):
        try:
            found.append(RunDirectory.open(folder))
        except RunRecordError as error:
            unreadable.append(Unreadable(folder, error))
    return sorted(found, key=lambda run: run.manifest.created), unreadable
