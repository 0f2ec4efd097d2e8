"""Give disk space back: which runs, batch directories and cache entries may go, and removing them.

Only what this program has written is removed (`belongings` says what that is); a folder goes when
nothing else lies in it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.commands.batch_directory import LOGS, OWN
from orchestrator.errors import KissError, RunLockedError
from orchestrator.record import belongings
from orchestrator.record.cache import FOLDER
from orchestrator.record.find import Unreadable, find_runs
from orchestrator.record.result_folder import INDEX_HTML, RESULT_NAMES
from orchestrator.record.run_directory import MANIFEST, PROCESS_LOGS, RESULT, RunDirectory
from orchestrator.report.gallery import may_write
from orchestrator.system.inside import Entry, Inside
from orchestrator.system.locks import BATCH_FILE, SHARDS_FILE, directory_lock
from orchestrator.system.places import LinkError, is_temporary
from orchestrator.system.reading import JSON_BYTES, json_data, limited

_ENTRY = re.compile(r"blake2b-[0-9a-f]+\.json")
_EXPORT = re.compile(r"mesh\.[a-z0-9]+")
_SHOWN = 5
"""Names of foreign files in one line; all of them are in the JSON document."""


@dataclass(frozen=True)
class Chosen:
    """What would go.

    runs        whole run directories, or only their nodes' artifacts where `intermediate`
    batches     batch directories of which all runs go, and behind them those of which all shards go
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
        """Bytes that the runs' files would give back."""
        files = (_seen(run, self.intermediate).values() for run in self.runs)
        return belongings.space(itertools.chain.from_iterable(files))

    def __bool__(self) -> bool:
        return bool(self.runs or self.batches or self.entries)


@dataclass(frozen=True)
class Left:
    """Something that is still there.

    in_use   a process works in it
    foreign  the files and folders in it that are not this program's; nothing else is left there
    """

    path: Path
    why: str
    in_use: bool = False
    foreign: tuple[str, ...] = ()


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
        runs = tuple(run for run in runs if _seen(run, intermediate))
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
    batches += tuple(sorted(_shared_by(batches)))
    beside = {root, *parents, *(folder.parent for folder in batches)}
    entries = tuple(entry for folder in sorted(beside) for entry in _stale(folder, gone))
    return Chosen(runs, batches, entries, tuple(unreadable), False)


def _shared_by(batches: Collection[Path]) -> set[Path]:
    """The directories that shards share of which all shards are among these batches."""
    found = {folder.parent for folder in batches if (folder.parent / SHARDS_FILE).is_file()}
    return {path for path in found if {one.parent for one in _batches_in(path)} <= set(batches)}


def _batches_in(path: Path) -> list[Path]:
    return sorted(path.glob(f"*/{BATCH_FILE}"))


def _files(run: RunDirectory, intermediate: bool) -> dict[str, Entry]:
    return belongings.node_files(run) if intermediate else belongings.all_files(run)


def _seen(run: RunDirectory, intermediate: bool) -> dict[str, Entry]:
    """As `_files`; a folder that cannot be read is told when the run is removed."""
    with contextlib.suppress(OSError):
        return _files(run, intermediate)
    return {}


def _stale(folder: Path, gone: set[Path]) -> Iterator[Path]:
    """Entries of a cache index whose run is not there, or is about to go."""
    inside = Inside(folder)
    for entry in inside.entries(FOLDER):
        if not entry.is_file or not _ENTRY.fullmatch(entry.name):
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with inside.read(f"{FOLDER}/{entry.name}") as stream:
                run = Path(json_data(limited(stream, JSON_BYTES))["run"])
            if run.resolve() in gone or not (run / MANIFEST).is_file():
                yield folder / FOLDER / entry.name


def remove(chosen: Chosen) -> Removed:
    """Remove all that can be; what is in use, foreign or cannot be written is left, and told of."""
    left: list[Left] = []
    freed = 0
    for run in chosen.runs:
        with _noting(run.path, left):
            freed += _remove_run(run, chosen.intermediate, left)
    for folder in chosen.batches:
        if not any(folder.glob(f"*/{MANIFEST}")) and not _batches_in(folder):
            with _noting(folder, left):
                freed += _remove_batch(folder, left)
    gone = {run.path.resolve() for run in chosen.runs if not (run.path / MANIFEST).exists()}
    entries = 0
    for index in sorted({entry.parent for entry in chosen.entries}):
        with _noting(index, left):
            inside = Inside(index.parent)
            for entry in list(_stale(index.parent, gone)):
                size = entry.stat().st_size
                inside.remove(f"{FOLDER}/{entry.name}")
                entries, freed = entries + 1, freed + size
            with contextlib.suppress(LinkError):
                inside.remove_folder(FOLDER)
    stays = {item.path for item in left if not item.foreign}
    return Removed(
        tuple(run.path for run in chosen.runs if run.path not in stays),
        tuple(path for path in chosen.batches if not _is_batch(path)),
        entries,
        freed,
        tuple(left),
    )


def _is_batch(path: Path) -> bool:
    return any((path / name).exists() for name in (BATCH_FILE, SHARDS_FILE))


def _remove_run(run: RunDirectory, intermediate: bool, left: list[Left]) -> int:
    """Bytes that this gave back. The record goes last, so that a failure leaves a run."""
    with run.locked():
        freed = belongings.remove(run, intermediate)
        foreign = belongings.foreign(run)
        if intermediate:
            folders = belongings.node_folders(run)
            foreign = [path for path in foreign if path.startswith(tuple(f"{n}/" for n in folders))]
            for record in run.manifest.nodes.values():
                record.state, record.artifacts, record.key = "pending", {}, ""
            run.save()
    if foreign:
        left.append(_left_foreign(run.path, foreign))
    elif not intermediate:
        run.path.rmdir()  # behind the lock: Windows removes no open file
    return freed


def _left_foreign(path: Path, names: list[str]) -> Left:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    why = f"not made by this program: {', '.join(names[:_SHOWN])}{more}"
    return Left(path, why, foreign=tuple(names))


@contextlib.contextmanager
def _noting(path: Path, left: list[Left]) -> Iterator[None]:
    try:
        yield
    except KissError as error:
        left.append(Left(path, error.message, isinstance(error, RunLockedError)))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        left.append(Left(path, f"{what}{error.strerror or error}"))


def _is_result(name: str) -> bool:
    """Whether it is a copy of a file of the best candidate's result."""
    return name in RESULT_NAMES or bool(_EXPORT.fullmatch(name)) or is_temporary(name)


def _remove_batch(folder: Path, left: list[Left]) -> int:
    """The batch's own files, and the folder if nothing of anyone else's lies in it."""
    inside, freed = Inside(folder), 0
    with directory_lock(folder):
        logs = [e for e in inside.entries(LOGS) if PROCESS_LOGS.fullmatch(e.name) and e.is_file]
        own = {entry.name: entry for entry in inside.entries() if entry.is_file}
        results = [e for e in inside.entries(RESULT) if e.is_file and _is_result(e.name)]
        parts = [name for name in own if is_temporary(name)]
        files = [(f"{LOGS}/{entry.name}", entry.size) for entry in logs]
        files += [(f"{RESULT}/{entry.name}", entry.size) for entry in results]
        index = [e for e in inside.entries(FOLDER) if e.is_file and _ENTRY.fullmatch(e.name)]
        files += [(f"{FOLDER}/{entry.name}", entry.size) for entry in index]
        pages = [INDEX_HTML] if may_write(inside) else []
        names = (*parts, *pages, *OWN)
        files += [(name, own[name].size) for name in names if name in own]
        for file, size in files:
            inside.remove(file)
            freed += size
        for own_folder in (LOGS, RESULT, FOLDER):
            with contextlib.suppress(LinkError):
                inside.remove_folder(own_folder)
    rest = [entry.name for entry in inside.entries()]
    if rest:
        left.append(_left_foreign(folder, rest))
    else:
        folder.rmdir()
    return freed
