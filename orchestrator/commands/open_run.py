"""Run directories: a new one for a picture, or a known one again."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator import __version__
from orchestrator.commands.pictures import SUFFIXES, require_picture
from orchestrator.errors import (
    InputFileError,
    OutputError,
)
from orchestrator.planning.request import Prepared
from orchestrator.record.cache import ENTRIES, FOLDER, CacheIndex
from orchestrator.record.manifest import InputRecord, Manifest
from orchestrator.record.run_directory import MANIFEST, OUTPUTS, RunDirectory
from orchestrator.system import machine
from orchestrator.system.atomic_files import digest_bytes, digest_file, write_atomic
from orchestrator.system.folders import make_folders, new_folder_mode
from orchestrator.system.inside import is_temporary
from orchestrator.system.locks import LOCK_FILES
from orchestrator.system.text import printable, slug
from stages.contract.filetypes import HEAD, identify


def read_picture(path: Path, limit_mib: int) -> bytes:
    """The input file's bytes. Raises `InputFileError`."""
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a directory", "`kiss3d-orchestrate batch` takes those")
        size = path.stat().st_size
        if not path.is_file():
            raise InputFileError(f"{path} is no regular file", "give a picture's file")
        if size > limit_mib << 20:
            raise InputFileError(
                f"{path} has {size / 2**20:.0f} MiB, more than {limit_mib} MiB",
                "--set runtime.max_input_mib=N raises the limit",
            )
        if size == 0:
            raise InputFileError(f"{path} is empty", "give a picture's file that holds something")
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error
    require_picture(path, content)
    return content


def new_run_path(root: Path, source: Path) -> Path:
    """Make outputs/<input>-<time>, with a number behind it if that exists, and return it.

    Making it is what claims it: two runs that start in one second get two directories.
    Raises `OutputError`.
    """
    stem = f"{slug(source.stem)}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        make_folders(root)
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            with contextlib.suppress(FileExistsError):
                (root / f"{stem}{suffix}").mkdir(new_folder_mode(root / stem))
                return root / f"{stem}{suffix}"
    except OSError as error:
        raise OutputError(f"cannot write to {root}: {error.strerror or error}") from error
    raise AssertionError("unreachable: the count has no end")


def open_or_create(prepared: Prepared, source: Path, path: Path) -> RunDirectory:
    """The run directory for a picture: a new one, or a known one that is being run again.

    One that died while it was being made is gone on with, or made anew where its picture has
    changed since. The caller holds its lock. Raises `InputFileError`, `OutputError` (the directory
    holds something else) or `RunRecordError`.
    """
    known = RunDirectory.open(path) if (path / MANIFEST).is_file() else None
    if known is not None and not known.half_made:
        return _open_again(prepared, source, known)
    picture = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
    record = _record("input", source, picture)
    if known is not None and known.manifest.input.digest == record.digest:
        return _open_again(prepared, source, known)
    mask, mask_record = read_mask(prepared)
    given = [record] if mask_record is None else [record, mask_record]
    try:
        taken = path.is_dir() and any(not _is_beginning(e, given) for e in path.iterdir())
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    if taken or path.is_file():
        raise OutputError(f"{path} is not empty and holds no run", "choose another --output")
    manifest = describe(prepared, record, None, mask_record)
    return RunDirectory.create(path, manifest, picture, mask)


def read_mask(prepared: Prepared) -> tuple[bytes, InputRecord | None]:
    """The mask that the request names, if any. Raises `InputFileError`."""
    source = prepared.options.mask
    if source is None:
        return b"", None
    content = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
    return content, _record("mask", source, content)


def _record(name: str, source: Path, content: bytes) -> InputRecord:
    return InputRecord(
        source=printable(source.resolve()),
        file=f"{name}{_suffix(source, content)}",
        size=len(content),
        digest=digest_bytes(content),
    )


def _suffix(source: Path, picture: bytes) -> str:
    """What the copy's name ends in, so that image viewers open it."""
    if (suffix := source.suffix.lower()) in SUFFIXES:
        return suffix
    found = identify(picture[:HEAD])
    suffix = f".{found.name}" if found else ""
    return suffix if suffix in SUFFIXES else ".img"


def _is_beginning(entry: Path, given: Sequence[InputRecord]) -> bool:
    """Whether an entry of a directory without a usable run is one that making this run leaves there
    when it dies: its lock, its record, a half-written file, or what was given, to the last bit."""
    name = entry.name
    if name in (*LOCK_FILES, MANIFEST) or is_temporary(name, r"(run\.json|(input|mask)\.\w+)"):
        return True
    return any(
        name == record.file
        and entry.is_file()
        and entry.stat().st_size == record.size
        and digest_file(entry) == record.digest
        for record in given
    )


def _open_again(prepared: Prepared, source: Path, run: RunDirectory) -> RunDirectory:
    """A known run for the same picture; the picture itself may be gone, the copy serves."""
    record = run.manifest.input
    if source.exists() or printable(source.resolve()) != record.source:
        picture = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
        if digest_bytes(picture) != record.digest:
            raise OutputError(
                f"{run.path} holds a run of another picture ({record.source})",
                "choose another --output",
            )
        write_atomic(run.input_path, picture)
    mask, mask_record = read_mask(prepared)
    if mask_record is not None:
        write_atomic(run.path / mask_record.file, mask)
    run.manifest = describe(prepared, record, run.manifest, mask_record)
    run.check_input()
    return run


def describe(
    prepared: Prepared,
    record: InputRecord,
    old: Manifest | None,
    mask: InputRecord | None = None,
) -> Manifest:
    """The manifest's head for this request; rows of an earlier go are kept."""
    return Manifest(
        version=__version__,
        profile=prepared.settings.name,
        profile_reason=prepared.reason,
        seed=prepared.seed,
        created=old.created if old else time.time(),
        input=record,
        mask=mask,
        settings=prepared.settings.profile.model_dump(mode="json"),
        sources=dict(prepared.settings.sources),
        until=prepared.options.until or "",
        device=prepared.options.device,
        target_vram=prepared.options.target_vram,
        host_ram=prepared.options.host_ram,
        machine=machine.describe(prepared.monitor),
        nodes=old.nodes if old else {},
        former=old.former if old else {},
    )


def cache_beside(path: Path) -> CacheIndex | None:
    """The cache index of the folder that a run or batch directory lies in, if it may have one.

    In `outputs` it may before there is anything in it; elsewhere it must be there, with entries:
    another program's folder of the same name, as at home, is none.
    """
    root = path.resolve().parent
    if root == Path(OUTPUTS).resolve() or any((root / FOLDER).glob(ENTRIES)):
        return CacheIndex(root)
    return None
