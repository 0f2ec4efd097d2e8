"""Run directories: a new one for a subject, or a known one again."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator import __version__
from orchestrator.commands.given import Given, read_given
from orchestrator.commands.subject import Subject
from orchestrator.errors import OutputError
from orchestrator.planning.request import Prepared
from orchestrator.record.cache import ENTRIES, FOLDER, CacheIndex
from orchestrator.record.manifest import InputRecord, Manifest
from orchestrator.record.run_directory import MANIFEST, OUTPUTS, RunDirectory
from orchestrator.system.atomic_files import digest_file, write_atomic
from orchestrator.system.folders import make_folders, new_folder_mode
from orchestrator.system.locks import LOCK_FILES, SHARDS_FILE
from orchestrator.system.places import is_temporary
from orchestrator.system.text import slug


def new_run_path(root: Path, name: str) -> Path:
    """Make outputs/<name>-<time>, with a number behind it if that exists, and return it.

    Making it is what claims it: two runs that start in one second get two directories.
    Raises `OutputError`.
    """
    stem = f"{slug(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        make_folders(root)
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            with contextlib.suppress(FileExistsError):
                (root / f"{stem}{suffix}").mkdir(new_folder_mode(root / stem))
                return root / f"{stem}{suffix}"
    except OSError as error:
        raise OutputError(
            f"cannot write to {root}: {error.strerror or error}",
            "name a folder of your own: --output",
        ) from error
    raise AssertionError("unreachable: the count has no end")


def open_or_create(
    prepared: Prepared, subject: Subject, path: Path, given: Given | None = None
) -> RunDirectory:
    """The run directory for a subject: a new one, or a known one that is being run again.

    given: what was read of it already. One that died while it was being made is gone on with, or
    made anew where its input has changed since. The caller holds its lock. Raises `ConfigError`,
    `InputFileError`, `OutputError` (the directory holds something else) or `RunRecordError`.
    """
    known = RunDirectory.open(path) if (path / MANIFEST).is_file() else None
    if known is not None and not known.half_made:
        given = given or read_given(prepared, subject, known.manifest.given)
        return _open_again(prepared, subject, known, given)
    given = given or read_given(prepared, subject)
    if known is not None and known.manifest.input.digest == given.first.digest:
        return _open_again(prepared, subject, known, given)
    try:
        records = list(given.records.values())
        taken = path.is_dir() and any(not _is_beginning(e, records) for e in path.iterdir())
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    if taken or path.is_file():
        raise OutputError(f"{path} is not empty and holds no run", "choose another --output")
    manifest = describe(prepared, subject, given.records, None)
    return RunDirectory.create(path, manifest, given.contents)


def _is_beginning(entry: Path, given: Sequence[InputRecord]) -> bool:
    """Whether an entry of a directory without a usable run is one that making this run leaves there
    when it dies: its lock, its record, a half-written file, or what was given, to the last bit."""
    name = entry.name
    if name in (*LOCK_FILES, MANIFEST) or is_temporary(name, _COPIES):
        return True
    return any(
        name == record.file
        and entry.is_file()
        and entry.stat().st_size == record.size
        and digest_file(entry) == record.digest
        for record in given
    )


_COPIES = r"(run\.json|(input|mask|back|left|right|text)\.\w+)"
"""What is written into a directory before there is a run in it."""


def _open_again(
    prepared: Prepared, subject: Subject, run: RunDirectory, given: Given
) -> RunDirectory:
    """A known run of the same subject; what was given may be gone, the copies serve."""
    if given.first.digest != run.manifest.input.digest:
        raise OutputError(
            f"{run.path} holds a run of another {subject.start} ({run.manifest.input.title})",
            "choose another --output",
        )
    first = next(iter(given.records))
    records = {**given.records, first: run.manifest.input}  # where it lay when the run began
    run.manifest = describe(prepared, subject, records, run.manifest)
    for artifact, content in given.contents.items():
        write_atomic(run.path / run.manifest.given[artifact].file, content)
    run.check_input()
    return run


def describe(
    prepared: Prepared,
    subject: Subject,
    given: Mapping[str, InputRecord],
    old: Manifest | None,
) -> Manifest:
    """The manifest's head for this request; rows of an earlier go are kept."""
    return Manifest(
        version=__version__,
        profile=prepared.settings.name,
        profile_reason=prepared.reason,
        seed=prepared.seed if subject.seed is None else subject.seed,
        created=old.created if old else time.time(),
        given=dict(given),
        settings=prepared.recorded,
        sources=prepared.origins,
        until=prepared.options.until or "",
        device=prepared.options.device,
        target_vram=prepared.options.target_vram,
        host_ram=prepared.options.host_ram,
        machine=prepared.machine,
        nodes=old.nodes if old else {},
        former=old.former if old else {},
        formats=list(prepared.options.formats),
        exports=old.exports if old else [],
        former_exports=old.former_exports if old else [],
        keep=prepared.options.keep,
        kept=old.kept if old else "all",
    )


def cache_beside(path: Path) -> CacheIndex | None:
    """The cache index of the folder that a run or batch directory lies in, if it may have one.

    In `outputs` it may before there is anything in it; elsewhere it must be there, with entries:
    another program's folder of the same name, as at home, is none. A shard's is beside the
    directory that all shards of its batch share.
    """
    root = path.resolve().parent
    if (root / SHARDS_FILE).is_file():
        root = root.parent
    if root == Path(OUTPUTS).resolve() or any((root / FOLDER).glob(ENTRIES)):
        return CacheIndex(root)
    return None
