"""Give disk space back: which runs, batch directories and cache entries may go, and removing them.

Only what this program has written is removed; a folder goes when nothing else lies in it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.artifacts import BATCH_FILE, LOCK, MANIFEST, RunDirectory, directory_lock
from orchestrator.batches import LOGS
from orchestrator.cache import FOLDER
from orchestrator.errors import KissError, RunLockedError
from orchestrator.opening import find_runs

_BATCH_FILES = ("summary.json", "summary.csv", BATCH_FILE)
"""The one that makes it a batch comes last, so that a half-removed one can be cleaned again."""


@dataclass(frozen=True)
class Chosen:
    """What would go.

    runs      whole run directories, or only their nodes' artifacts where `intermediate`
    batches   batch directories of which all runs go
    entries   files of a cache index that name a run which goes, or has gone
    """

    runs: tuple[RunDirectory, ...]
    batches: tuple[Path, ...]
    entries: tuple[Path, ...]
    intermediate: bool

    def __bool__(self) -> bool:
        return bool(self.runs or self.batches or self.entries)


@dataclass(frozen=True)
class Left:
    """Something that is still there. `in_use`: because a process works in it."""

    path: Path
    why: str
    in_use: bool


def choose(root: Path, wanted: Callable[[RunDirectory], bool], intermediate: bool) -> Chosen:
    """What of everything below `root` may go, if `wanted` says so of the runs."""
    found = list(find_runs(root))
    runs = tuple(run for run in found if wanted(run))
    if intermediate:
        return Chosen(runs, (), (), True)
    gone = {run.path.resolve() for run in runs}
    kept = {path.parent for run in found if (path := run.path.resolve()) not in gone}
    parents = {run.path.parent for run in runs}
    batches = tuple(
        folder
        for folder in sorted(parents)
        if (folder / BATCH_FILE).is_file() and folder.resolve() not in kept
    )
    beside = {root, *parents, *(folder.parent for folder in batches)}
    entries = tuple(entry for folder in sorted(beside) for entry in _stale(folder, gone))
    return Chosen(runs, batches, entries, False)


def _stale(folder: Path, gone: set[Path]) -> Iterator[Path]:
    """Entries of a cache index whose run is not there, or is about to go."""
    for entry in sorted((folder / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            run = Path(json.loads(entry.read_bytes())["run"])
            if run.resolve() in gone or not (run / MANIFEST).is_file():
                yield entry


def remove(chosen: Chosen) -> list[Left]:
    """Remove all that can be; what is in use or cannot be written is left and returned."""
    left: list[Left] = []
    for run in chosen.runs:
        with _noting(run.path, left):
            with run.locked():
                if chosen.intermediate:
                    _remove_artifacts(run)
                else:
                    _empty(run.path, last=MANIFEST)
            if not chosen.intermediate:
                run.path.rmdir()  # behind the lock: Windows removes no open file
    for folder in chosen.batches:
        if not any(folder.glob(f"*/{MANIFEST}")):
            with _noting(folder, left):
                _remove_batch(folder)
    gone = {run.path.resolve() for run in chosen.runs if not (run.path / MANIFEST).exists()}
    for index in sorted({entry.parent for entry in chosen.entries}):
        with _noting(index, left):
            _unlink(_stale(index.parent, gone))
            with contextlib.suppress(OSError):  # other entries are still good
                index.rmdir()
    return left


@contextlib.contextmanager
def _noting(path: Path, left: list[Left]) -> Iterator[None]:
    try:
        yield
    except KissError as error:
        left.append(Left(path, error.message, isinstance(error, RunLockedError)))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        left.append(Left(path, f"{what}{error.strerror or error}", False))


def _empty(folder: Path, last: str) -> None:
    """All of a locked folder but its lock; `last` goes last, so that a failure leaves a run."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name == last)
    for entry in entries:
        if entry.name == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_artifacts(run: RunDirectory) -> None:
    for name, record in run.manifest.nodes.items():
        if (run.path / name).is_dir():
            shutil.rmtree(run.path / name)
        record.state, record.artifacts, record.key = "pending", {}, ""
    run.save()


def _remove_batch(folder: Path) -> None:
    """The batch's own files, and the folder if nothing of anyone else's lies in it."""
    with directory_lock(folder):
        logs = folder / LOGS
        _unlink(logs.glob("*.log"))
        with contextlib.suppress(OSError):  # not there, or not only ours
            logs.rmdir()
        _unlink(folder / name for name in _BATCH_FILES)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _unlink(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def size_of(folders: Sequence[Path]) -> int:
    """Bytes in all files below the folders; files that vanish meanwhile count nothing."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                total += 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
    return total
