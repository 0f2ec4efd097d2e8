"""Which files of a folder are pictures, or meshes. Told by content, not by suffix.

A file counts as a picture when its first bytes say so, or when its name does: one that only claims
to be a picture is worked on too, so that it fails with a reason. What a user names (a single file,
a --glob) is taken whatever it is, unless it is known to be something else. Nothing else is left
out without being told.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.commands.subject import MESH_SUFFIXES
from orchestrator.errors import InputFileError, UsageError
from orchestrator.planning.options import Start
from orchestrator.record.run_directory import EVENTS, MANIFEST, OUTPUTS
from orchestrator.system.locks import BATCH_FILE, SHARDS_FILE
from stages.contract.filetypes import HEAD, identify

SUBFOLDER = "a subfolder: --recursive takes it"
"""Why a folder of the user's own is left out."""
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff"),
        *("avif", "heic", "heif", "jp2", "j2k"),
    )
)


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is no input of a batch. path: below the batch's folder."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Gathered:
    """What a folder holds for a batch: pictures or meshes."""

    pictures: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


class NothingFoundError(UsageError):
    """A folder holds nothing to work on."""


def require_picture(path: Path, content: bytes) -> None:
    """Raise `InputFileError` for a file that is known to be something else than a picture."""
    found = identify(content[:HEAD])
    if found is not None and not found.picture:
        raise InputFileError(f"{path} is {found.title}", found.remedy)


def gather(folder: Path, glob: str | None, recursive: bool, kind: Start = "picture") -> Gathered:
    """The pictures of a folder, or its meshes, those higher up first.

    Never taken: what this program wrote (a run's or batch's directory, `outputs`), and hidden
    files. Raises `InputFileError`, or `NothingFoundError`.
    """
    if not folder.exists():
        raise InputFileError(f"{folder} does not exist", "check the path")
    if not folder.is_dir():
        raise InputFileError(f"{folder} is not a directory", "`run` takes a single picture")
    if own := written_by_us(folder):
        raise InputFileError(
            f"{folder} is {own}, not a folder of pictures",
            "`kiss3d-orchestrate resume` goes on with it",
        )
    matching = None if glob is None else _matching(folder, glob, recursive)
    pictures: list[Path] = []
    skipped: list[Skipped] = []
    for path, reason in _walk(folder, recursive or glob is not None, matching, kind):
        if reason:
            skipped.append(Skipped(path.relative_to(folder), reason))
        else:
            pictures.append(path)
    if not pictures:
        if here := next((one for one in skipped if one.path == Path()), None):
            raise InputFileError(f"{folder} {here.reason}", "check its access rights")
        what = f'files that match "{glob}"' if glob else _KINDS[kind]
        other = [one for one in skipped if one.reason != SUBFOLDER]
        told = f"; skipped: {listed(other)}" if other else ""
        deeper = "" if recursive else "--recursive looks into subdirectories"
        raise NothingFoundError(f"no {what} in {folder}{told}", deeper)
    pictures.sort(key=lambda path: (len(path.parts), path))
    return Gathered(tuple(pictures), tuple(skipped))


def listed(skipped: Sequence[Skipped], most: int = 3) -> str:
    """Skipped files in one line, by reason, each reason with at most so many names; of subfolders
    their number."""
    ordered = sorted(skipped, key=lambda one: one.reason)
    groups = (
        (reason, [str(one.path) for one in group])
        for reason, group in itertools.groupby(ordered, key=lambda one: one.reason)
    )
    return "; ".join(
        _subfolders(len(names)) if reason == SUBFOLDER else f"{shortlist(names, most)} ({reason})"
        for reason, names in groups
    )


def _subfolders(count: int) -> str:
    return f"{count} subfolders, --recursive takes them" if count > 1 else SUBFOLDER


def shortlist(names: Sequence[str], most: int) -> str:
    """Names with commas between them: at most so many, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _matching(folder: Path, glob: str, recursive: bool) -> frozenset[Path]:
    try:
        return frozenset(folder.rglob(glob) if recursive else folder.glob(glob))
    except (ValueError, NotImplementedError, OSError) as error:
        raise UsageError(f'--glob "{glob}": {error}', 'e.g. --glob "*.png"') from error


_KINDS: Mapping[Start, str] = {"picture": "pictures", "mesh": "meshes"}


def _walk(
    folder: Path, deep: bool, matching: Collection[Path] | None, kind: Start
) -> Iterator[tuple[Path, str]]:
    """Each file, and each folder that is not looked into, with why it is no input ("" if it is)."""
    unreadable: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=unreadable.append):
        here = Path(place)
        for name in sorted(folders):
            path = here / name
            reason = _why_not_folder(path)
            if reason or not deep:
                folders.remove(name)
            if deep:
                if reason and _concerns(path, matching):
                    yield path, reason
            elif not reason:
                yield path, SUBFOLDER
        for path in (here / name for name in sorted(files)):
            if matching is None:
                yield path, _why_not(path, kind)
            elif path in matching:
                yield path, _why_no_file(path)
    for error in unreadable:
        yield Path(error.filename), f"cannot be read: {error.strerror}"


def _concerns(folder: Path, matching: Collection[Path] | None) -> bool:
    return matching is None or any(folder in path.parents for path in matching)


def _why_not_folder(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "a link to a folder"
    return "where results are written" if path.name == OUTPUTS else written_by_us(path)


def written_by_us(folder: Path) -> str:
    """What a folder is that this program made for a run or batch, or ""."""
    # os.path.exists is no error for a folder that may not be looked into.
    if any(os.path.exists(folder / name) for name in (BATCH_FILE, SHARDS_FILE)):
        return "the directory of a batch"
    run = any(os.path.exists(folder / name) for name in (MANIFEST, EVENTS))
    return "the directory of a run" if run else ""


def _why_no_file(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if stat.S_ISREG(kind) else "no regular file"


def _why_not(path: Path, kind: Start) -> str:
    suffixes = MESH_SUFFIXES if kind == "mesh" else SUFFIXES
    if (reason := _why_no_file(path)) or path.suffix.lower() in suffixes:
        return reason
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        size = path.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    found = identify(head, size)
    if found is None:
        return f"not a {kind}" if head else "empty"
    return "" if (found.mesh if kind == "mesh" else found.picture) else found.title
