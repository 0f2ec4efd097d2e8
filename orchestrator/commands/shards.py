"""Shards of a batch: equal parts of one list, each worked on by a process of its own, on any
machine that sees the folder that they share.

    DIR/shards.json          the whole list with its names, and on what terms; written once, by the
                             shard that comes first, and read by all others
    DIR/shard-2-of-8/        an ordinary batch: batch.json, a run directory a picture, summary, page
    DIR/summary.json, ...    what `batch merge` makes of them

A shard writes to its own directory alone. Shard I of N, counted from 0, has the pictures I, I + N,
I + 2 N, ... of the list, so that they are disjoint, complete, and alike in size.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from orchestrator import __version__
from orchestrator.commands import batch_directory
from orchestrator.commands.batch_directory import Batch
from orchestrator.errors import OutputError, RunRecordError, UsageError
from orchestrator.record.cache import changed
from orchestrator.system.atomic_files import write_json
from orchestrator.system.folders import NewFolder
from orchestrator.system.locks import LOCK_FILES, SHARDS_FILE, as_output_error, directory_lock
from orchestrator.system.places import is_temporary
from orchestrator.system.reading import JSON_BYTES, json_data, read_limited

if TYPE_CHECKING:
    from orchestrator.planning.options import Options
    from orchestrator.planning.request import Prepared

MOST = 100_000
"""Shards of a batch; Kubernetes takes as many completions of an indexed Job, Slurm fewer."""
_WAIT_SECONDS = 120.0
"""For shards.json, which another shard is just writing: all of an array may begin at once."""
_TOLD = 3
"""Terms that differ which are told of."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 0."""

    index: int
    count: int

    @property
    def folder(self) -> str:
        """Name of its directory."""
        return f"shard-{self.index:0{len(str(self.count - 1))}}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """A shard of its text, "I/N". Raises `UsageError`, with what is usually behind the mistake."""
    found = re.fullmatch(r"(-?\d{0,9})/(\d{0,9})", text.strip())
    if found is None:
        raise UsageError(f'--shard "{text}" is not I/N', "as in --shard 0/8: the first of eight")
    if not found[1] or not found[2]:
        raise UsageError(
            f'--shard "{text}": a number is missing',
            "$SLURM_ARRAY_TASK_ID and $JOB_COMPLETION_INDEX are set in an array of jobs alone",
        )
    index, count = int(found[1]), int(found[2])
    if not 1 <= count <= MOST:
        raise UsageError(f"--shard {text}: {count} shards", f"from 1 to {MOST}")
    if not 0 <= index < count:
        raise UsageError(
            f"--shard {text}: shards are counted from 0, so that the last one is "
            f"{count - 1}/{count}",
            f"of a Slurm array say --array=0-{count - 1}",
        )
    return Shard(index, count)


@dataclass(frozen=True)
class Layout:
    """What all shards of a directory are cut from: shards.json.

    whole   every job with its name, as if it were one batch
    terms   what each shard has to be asked for alike: how many, of what, with which settings
    """

    whole: Batch
    terms: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.whole.path

    @property
    def count(self) -> int:
        return int(self.terms["shards"])

    @property
    def shards(self) -> list[Shard]:
        return [Shard(index, self.count) for index in range(self.count)]

    def part(self, shard: Shard, options: Options | None = None) -> Batch:
        """The batch that a shard is, with these options or with those of the first that came."""
        names = itertools.islice(self.whole.jobs, shard.index, None, shard.count)
        jobs = {name: self.whole.jobs[name] for name in names}
        return Batch(self.path / shard.folder, jobs, options or self.whole.options)

    def require(self, terms: Mapping[str, Any]) -> None:
        """Refuse a shard that is asked for on other terms. Raises `OutputError`."""
        differing = changed(self.terms, terms)
        if not differing:
            return
        told = [
            f"{name} {_at(self.terms, name)!r}, and not {_at(terms, name)!r}"
            for name in differing[:_TOLD]
        ]
        more = f" and {len(differing) - _TOLD} more" if len(differing) > _TOLD else ""
        raise OutputError(
            f"the shards in {self.path} were begun with {'; '.join(told)}{more}",
            "ask for every shard alike (name a --profile, or each machine chooses its own), or "
            "choose another --output",
        )


def _at(terms: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = terms
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def terms_of(
    count: int, source: Path, glob: str | None, recursive: bool, prepared: Prepared
) -> dict[str, Any]:
    """What the other shards have to be asked for alike. Not among it: cards and budgets, which are
    each machine's own."""
    options = prepared.options
    return {
        "shards": count,
        "source": str(source.resolve()),
        "glob": glob or "",
        "recursive": recursive,
        "version": __version__,
        "profile": prepared.settings.name,
        "until": options.until or "",
        "formats": list(options.formats),
        "keep": options.keep,
        "settings": prepared.settings.profile.model_dump(mode="json"),
    }


def is_sharded(path: Path) -> bool:
    return (path / SHARDS_FILE).is_file()


def load(path: Path) -> Layout:
    """The layout in a directory. Raises `RunRecordError`."""
    file = path / SHARDS_FILE
    whole = batch_directory.load(path, SHARDS_FILE)
    try:
        terms = json_data(read_limited(file, JSON_BYTES)).get("terms")
        _Terms.model_validate(terms)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"terms.{'.'.join(map(str, first['loc']))} {first['msg']}"
        raise RunRecordError(f"{file} cannot be read: {what}", _ANEW) from error
    except (OSError, ValueError) as error:
        raise RunRecordError(f"{file} cannot be read: {error}", _ANEW) from error
    if not whole.jobs:
        raise RunRecordError(f"{file} lists nothing", _ANEW)
    return Layout(whole, terms)


class _Terms(BaseModel, strict=True):
    """Those of the terms that are used for more than a comparison."""

    shards: int = Field(ge=1, le=MOST)
    source: str
    glob: str
    recursive: bool
    profile: str


_ANEW = "choose another --output, and begin all shards anew"


def places(path: Path) -> dict[str, Path]:
    """Name of each job of a batch, or of all shards in a directory -> its run's directory.

    Raises `RunRecordError`.
    """
    if not is_sharded(path):
        return {name: path / name for name in batch_directory.load(path).jobs}
    layout = load(path)
    parts = map(layout.part, layout.shards)
    found = {name: part.path / name for part in parts for name in part.jobs}
    return {name: found[name] for name in layout.whole.jobs}


def settle(proposed: Layout) -> Layout:
    """Write shards.json, unless another shard has done that: then it is that one's.

    Raises `OutputError`, and leaves nothing then, or `RunLockedError`.
    """
    path = proposed.path
    if is_sharded(path):
        return _same(proposed)
    with as_output_error(path), NewFolder(path) as made, directory_lock(path, _WAIT_SECONDS):
        if is_sharded(path):
            made.keep()
            return _same(proposed)
        if not all(_is_beginning(entry) for entry in path.iterdir()):
            what = "is a batch by itself" if batch_directory.is_batch(path) else "is not empty"
            raise OutputError(f"{path} {what}", "choose another --output for the shards to share")
        write_json(path / SHARDS_FILE, document(proposed))
        made.keep()
    return proposed


def document(layout: Layout) -> dict[str, Any]:
    """What shards.json says of a layout."""
    return {**batch_directory.document(layout.whole), "terms": dict(layout.terms)}


def _same(proposed: Layout) -> Layout:
    """What is on the disk, if it is on the terms that are proposed."""
    known = load(proposed.path)
    known.require(proposed.terms)
    return known


def _is_beginning(entry: Path) -> bool:
    """Whether an entry of a directory is one that its first shard leaves there when it dies."""
    return entry.name in LOCK_FILES or is_temporary(entry.name, r"shards\.json")


def open_part(part: Batch) -> None:
    """Have the directory of a shard, a new one or the one that it has had. Raises `OutputError`."""
    if batch_directory.is_batch(part.path):
        with as_output_error(part.path):
            batch_directory.save(part)
    else:
        batch_directory.create(part)
