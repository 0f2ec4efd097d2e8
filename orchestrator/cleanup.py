"""Give disk space back: which runs, batch directories and cache entries may go, and removing them.

Only what this program has written is removed; a folder goes when nothing else lies in it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.artifacts import BATCH_FILE, LOCK, MANIFEST, RunDirectory, directory_lock
from orchestrator.batches import LOGS
from orchestrator.cache import FOLDER
from orchestrator.errors import KissError, RunLockedError
from orchestrator.opening import Unreadable, find_runs
from orchestrator.reading import JSON_BYTES, json_data, read_limited

_BATCH_FILES = ("summary.json", "summary.csv", BATCH_FILE)
"""The one that makes it a batch comes last, so that a half-removed one can be cleaned again."""


@dataclass(frozen=True)
class Chosen:
    """What would go.

    runs        whole run directories, or only their nodes' artifacts where `intermediate`
    batches     batch directories of which all runs go
    entries     files of a cache index that name a run which goes, or has gone
    unreadable  runs that stay because nobody can say of them what they are
    """

    runs: tuple[RunDirectory, ...]
    batches: tuple[Path, ...]
    entries: tuple[Path, ...]
    unreadable: tuple[Unreadable, ...]
    intermediate: bool

    @property
    def size(self) -> int:
        """Bytes of the runs' files that would go."""
        if not self.intermediate:
            return size_of(run.path for run in self.runs)
        return sum(size_of(_node_folders(run)) for run in self.runs)

    def __bool__(self) -> bool:
        return bool(self.runs or self.batches or self.entries)


@dataclass(frozen=True)
class Left:
    """Something that is still there. `in_use`: because a process works in it."""

    path: Path
    why: str
    in_use: bool


@dataclass(frozen=True)
class Removed:
    """What is gone: runs and batch directories, the bytes that their files had, and what is left.

    runs     as in `Chosen`; of an `intermediate` choice they are there still, without artifacts
    entries  how many files of cache indices
    """

    runs: tuple[Path, ...]
    batches: tuple[Path, ...]
    entries: int
    freed: int
    left: tuple[Left, ...]


def choose(root: Path, wanted: Callable[[RunDirectory], bool], intermediate: bool) -> Chosen:
    """What of everything below `root` may go, if `wanted` says so of the runs."""
    found, unreadable = find_runs(root)
    runs = tuple(run for run in found if wanted(run))
    if intermediate:
        runs = tuple(run for run in runs if _node_folders(run))
        return Chosen(runs, (), (), tuple(unreadable), True)
    gone = {run.path.resolve() for run in runs}
    kept = {path.parent for run in found if (path := run.path.resolve()) not in gone}
    kept |= {one.path.resolve().parent for one in unreadable}
    parents = {run.path.parent for run in runs}
    batches = tuple(
        folder
        for folder in sorted(parents)
        if (folder / BATCH_FILE).is_file() and folder.resolve() not in kept
    )
    beside = {root, *parents, *(folder.parent for folder in batches)}
    entries = tuple(entry for folder in sorted(beside) for entry in _stale(folder, gone))
    return Chosen(runs, batches, entries, tuple(unreadable), False)


def _node_folders(run: RunDirectory) -> list[Path]:
    return [path for name in run.manifest.nodes if (path := run.path / name).is_dir()]


def _stale(folder: Path, gone: set[Path]) -> Iterator[Path]:
    """Entries of a cache index whose run is not there, or is about to go."""
    for entry in sorted((folder / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            run = Path(json_data(read_limited(entry, JSON_BYTES))["run"])
            if run.resolve() in gone or not (run / MANIFEST).is_file():
                yield entry


def remove(chosen: Chosen) -> Removed:
    """Remove all that can be; what is in use or cannot be written is left, and told of."""
    left: list[Left] = []
    whole = [*(run.path for run in chosen.runs), *chosen.batches]
    before = size_of(whole) + _size(chosen.entries)
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
    stays = {item.path for item in left}
    return Removed(
        tuple(run.path for run in chosen.runs if run.path not in stays),
        tuple(path for path in chosen.batches if not (path / BATCH_FILE).exists()),
        sum(not entry.exists() for entry in chosen.entries),
        max(0, before - size_of(whole) - _size(chosen.entries)),
        tuple(left),
    )


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
    for folder in _node_folders(run):
        shutil.rmtree(folder)
    for record in run.manifest.nodes.values():
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


def size_of(folders: Iterable[Path]) -> int:
    """Bytes in all files below the folders, each counted once; what vanishes meanwhile is none."""
    return _size({path for folder in folders for path in folder.rglob("*")})


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
    return total
