"""Which weights a name stands for right now, told without reading them.

A file in the hub's cache is known by its blob, which the hub names after its content. A file of
one's own is known by its size and its time of change, so a copy of the same weights, or one that
was merely touched, counts as others: that costs a computation, never a wrong result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.weights import catalogue

LEVELS = ("*", "*/*", "*/*/*")
"""How deep a folder of one's own is looked into: repositories keep a part's files one below."""


@dataclass(frozen=True)
class Identity:
    """What tells these weights from others.

    place     the folder or file, None where they are missing or incomplete
    revision  commit of the hub's repository; "" for files of one's own
    digest    of the files' relative names, sizes, and blobs or times of change; "" without files.
              Neither the place nor the revision is part of it
    """

    place: Path | None
    revision: str = ""
    digest: str = ""


def identify(name: str) -> Identity:
    """The identity behind a name of the catalogue, or a path. Only looks at folders."""
    place = catalogue.locate(name)
    if place is None:
        return Identity(None)
    model = catalogue.catalogue().get(name)
    if model is None:
        files = _beside(place) if place.is_file() else _below(place)
        return Identity(place, "", _digest(place if place.is_dir() else place.parent, files))
    if model.repo and place == catalogue.hub_snapshot(model):
        listed = [place / path for path in catalogue.files(model, place)]
        return Identity(place, place.name, _digest(place, [*listed, *_converted(listed)]))
    return Identity(place, "", _digest(place, _below(place)))


def _below(folder: Path) -> Iterator[Path]:
    return (path for level in LEVELS for path in folder.glob(level))


def _beside(file: Path) -> Iterator[Path]:
    """A checkpoint, what it was converted to, and the configurations that may belong to it."""
    yield file
    yield from _converted([file])
    yield from file.parent.glob("*.json")


def _converted(files: Iterable[Path]) -> Iterator[Path]:
    return (file.with_suffix(".safetensors") for file in files if file.suffix in catalogue.PICKLED)


def _digest(folder: Path, files: Iterable[Path]) -> str:
    rows = [row for file in sorted(set(files)) if (row := _row(folder, file))]
    content = json.dumps(rows).encode()
    return "blake2b:" + hashlib.blake2b(content, digest_size=16).hexdigest()


def _row(folder: Path, file: Path) -> list[str | int]:
    """[] for what is no file, or has gone meanwhile."""
    name = file.relative_to(folder).as_posix()
    try:
        if not file.is_file():
            return []
        state = file.stat()
        target = file.resolve()
    except OSError:
        return []
    if file.is_symlink() and target.parent.name == "blobs":
        return [name, state.st_size, target.name]
    return [name, state.st_size, state.st_mtime_ns]
