"""What a batch is made of: the pictures or meshes of a folder, or the lines of a list of words.

A text file has one description a line; empty lines and those that begin with # are comments. Lines
that are paths of pictures or meshes, seen from the file's own folder, make it a list of those. A
CSV file has a column `text`, and may have `name` (of the result's folder) and `seed`.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.commands import pictures
from orchestrator.commands.pictures import Skipped
from orchestrator.commands.subject import MESH, MESH_SUFFIXES, PICTURE, Subject, is_mesh, words_of
from orchestrator.errors import InputFileError, UsageError
from orchestrator.pipeline import layers
from orchestrator.pipeline.graph import Graph
from orchestrator.planning.options import Start
from orchestrator.system.reading import read_limited
from orchestrator.system.text import slug
from stages.contract.mesh_files import bare
from stages.contract.mesh_files import pictures as named_pictures

LISTS = frozenset({".txt", ".csv"})
_LIST_BYTES = 64 << 20
_MATERIAL_BYTES = 1 << 20
_COLUMNS = ("name", "text", "seed")
_SINGULAR = {"picture": "picture", "text": "description", "mesh": "mesh"}
_PLURAL = {"picture": "pictures", "text": "descriptions", "mesh": "meshes"}
_MAX_SEED = (1 << 63) - 1


@dataclass(frozen=True)
class Listed:
    """One subject. names: what its job may be called, best first; the last may get a number."""

    names: tuple[str, ...]
    subject: Subject


@dataclass(frozen=True)
class BatchInputs:
    """All subjects of a batch.

    name     of the folder or list that they are from
    skipped  what of it is no input
    told     how a list was read, for people; "" for a folder
    """

    name: str
    start: Start
    listed: tuple[Listed, ...]
    skipped: tuple[Skipped, ...] = ()
    told: str = ""


def find_inputs(
    source: Path, glob: str | None, recursive: bool, profile: str | None
) -> BatchInputs:
    """What `batch SOURCE` works on. Raises `UsageError`s, also where there is nothing to do.

    profile: the one that was asked for; of a folder, one that begins with meshes takes those.
    """
    if source.suffix.lower() in LISTS and not source.is_dir():
        if glob is not None or recursive:
            raise UsageError("--glob and --recursive are for folders", "leave them out")
        return _of_list(source)
    if _wants_meshes(profile):
        return _of_folder(source, pictures.gather(source, glob, recursive, "mesh"))
    try:
        found = pictures.gather(source, glob, recursive)
    except pictures.NothingFoundError as error:
        try:
            return _of_folder(source, pictures.gather(source, glob, recursive, "mesh"))
        except pictures.NothingFoundError:
            raise error from None
    if glob is None:
        textures = _textures(source, found.skipped)
        left = tuple(path for path in found.pictures if path.name not in textures)
        if not left:  # they are what the meshes beside them name
            return _of_folder(source, pictures.gather(source, None, recursive, "mesh"))
        also = tuple(
            Skipped(path.relative_to(source), "a mesh's texture")
            for path in found.pictures
            if path.name in textures
        )
        found = pictures.Gathered(left, found.skipped + also)
    return _of_folder(source, found)


def _textures(folder: Path, skipped: Sequence[Skipped]) -> set[str]:
    """Names of the pictures that a folder's materials name. skipped: its files that are none."""
    found: set[str] = set()
    for one in skipped:
        if one.path.suffix.lower() == ".mtl":
            with contextlib.suppress(OSError, ValueError):
                content = read_limited(folder / one.path, _MATERIAL_BYTES)
                found |= {bare(name) for name in named_pictures(content)}
    return found


def _wants_meshes(profile: str | None) -> bool:
    if profile not in layers.profile_names():
        return False
    return Graph.from_profile(layers.load(profile).profile).given.get(MESH, False)


def _of_folder(folder: Path, found: pictures.Gathered) -> BatchInputs:
    """The files of a folder. Raises `UsageError` for pictures and meshes at once."""
    meshes = [is_mesh(path) for path in found.pictures]
    if any(meshes) and not all(meshes):
        raise UsageError(
            f"{folder}: these are both pictures and meshes", 'choose by --glob, e.g. --glob "*.glb"'
        )
    artifact = MESH if meshes[0] else PICTURE
    listed = tuple(
        Listed(_names(folder, path), Subject({artifact: path})) for path in found.pictures
    )
    return BatchInputs(
        folder.resolve().stem, "mesh" if meshes[0] else "picture", listed, found.skipped
    )


def _names(folder: Path, path: Path) -> tuple[str, ...]:
    relative = path.relative_to(folder)
    return slug(path.stem), slug("-".join(relative.with_suffix("").parts))


def _of_list(source: Path) -> BatchInputs:
    try:
        text = read_limited(source, _LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(f"{source} is no UTF-8 text: {error}", "save it as UTF-8") from None
    except FileNotFoundError:
        raise InputFileError(f"{source} does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise InputFileError(f"cannot read {source}: {error}") from error
    rows = _csv_rows(source, text) if source.suffix.lower() == ".csv" else _lines(text)
    listed: list[Listed] = []
    skipped: list[Skipped] = []
    for number, row in rows:
        try:
            listed.append(_listed(source, *row))
        except (UsageError, ValueError) as error:
            why = error.message if isinstance(error, UsageError) else str(error)
            skipped.append(Skipped(Path(f"line {number}"), why))
    if not listed:
        raise _nothing_in(source, skipped)
    kinds = {one.subject.start for one in listed}
    if len(kinds) > 1:
        raise UsageError(
            f"{source} lists {' and '.join(_PLURAL[kind] for kind in sorted(kinds))}",
            "make a list of each kind",
        )
    (kind,) = kinds
    noun = (_PLURAL if len(listed) > 1 else _SINGULAR)[kind]
    told = f"{source} is read as a list, one a line: {len(listed)} {noun}"
    return BatchInputs(source.resolve().stem, kind, tuple(listed), tuple(skipped), told)


def _nothing_in(source: Path, skipped: Sequence[Skipped]) -> UsageError:
    if skipped:
        return UsageError(
            f"nothing in {source} can be used: {pictures.listed(skipped)}",
            "give each line a description, or a file's path as seen from the list's folder",
        )
    words = "a red ceramic vase"
    if source.suffix.lower() == ".csv":
        return UsageError(f"no rows in {source}", f"below the line of names, e.g.: {words}")
    return UsageError(f"no descriptions in {source}", f"one a line: {words}")


def _listed(source: Path, name: str, text: str, seed: str) -> Listed:
    """One row of a list. Raises `UsageError` or ValueError."""
    number = None
    if seed.strip():
        told = seed.strip()[:40]
        if seed.strip().isdecimal() and int(seed) > _MAX_SEED:
            raise ValueError(f"{told} is too large for a seed: at most {_MAX_SEED}")
        if not seed.strip().isdecimal():
            raise ValueError(f'"{told}" is no seed: that is a whole number from 0 on, such as 42')
        number = int(seed)
    if Path(text.strip()).suffix.lower() in pictures.SUFFIXES | MESH_SUFFIXES:
        path = source.parent / text.strip()
        if not path.is_file():
            raise ValueError(f"{text.strip()[:200]} does not exist")
        subject = Subject({MESH if is_mesh(path) else PICTURE: path}, "", number)
    else:
        subject = Subject({}, words_of(text), number)
    return Listed((slug(name.strip()) if name.strip() else subject.name,), subject)


def _lines(text: str) -> Iterator[tuple[int, tuple[str, str, str]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, ("", line, "")


def _csv_rows(source: Path, text: str) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """(line, (name, text, seed)) of each row. Raises `InputFileError`."""
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    columns = _columns(source, reader)
    try:
        for row in reader:
            cells = {column.strip().lower(): row[column] for column in columns}
            yield reader.line_num, (cells.get("name", ""), cells["text"], cells.get("seed", ""))
    except csv.Error as error:
        raise InputFileError(f"{source}, line {reader.line_num}: {error}") from error


def _columns(source: Path, reader: csv.DictReader[str]) -> Sequence[str]:
    found = list(reader.fieldnames or ())
    named = [column.strip().lower() for column in found]
    if "text" not in named:
        raise InputFileError(
            f"{source} has no column text", "its first line names the columns: name,text,seed"
        )
    if unknown := [column for column in named if column not in _COLUMNS]:
        raise InputFileError(
            f'{source} has a column "{unknown[0][:40]}"', f"known are {', '.join(_COLUMNS)}"
        )
    return found
