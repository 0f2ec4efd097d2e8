"""Batch directories: the pictures' names, on what terms; made, joined, read again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, PlainValidator, TypeAdapter, ValidationError

from orchestrator.commands import open_run
from orchestrator.commands.pictures import Gathered, Skipped
from orchestrator.errors import OutputError, RunRecordError
from orchestrator.planning.options import Options
from orchestrator.record.manifest import FileName as JobName
from orchestrator.record.result_folder import INDEX_HTML
from orchestrator.record.run_directory import BATCH_LOGS, OUTPUTS
from orchestrator.system.atomic_files import write_json
from orchestrator.system.folders import NewFolder
from orchestrator.system.inside import is_temporary
from orchestrator.system.locks import BATCH_FILE, LOCK_FILES, as_output_error
from orchestrator.system.reading import JSON_BYTES, json_data, read_limited
from orchestrator.system.text import slug

LOGS = BATCH_LOGS


@dataclass(frozen=True)
class Batch:
    """A batch directory: pictures by job name, and the request they share.

    skipped: what of the pictures' folder is no input, when it was last looked at
    """

    path: Path
    pictures: dict[str, Path]
    options: Options
    skipped: tuple[Skipped, ...] = ()


def job_names(folder: Path, pictures: Sequence[Path], taken: Iterable[str] = ()) -> dict[str, Path]:
    """A unique, path-safe name for each picture: its stem, with more where stems collide."""
    used = {LOGS, INDEX_HTML, *(name.lower() for name in taken)}
    named: dict[str, Path] = {}
    for picture in pictures:
        relative = picture.relative_to(folder)
        candidates = [slug(picture.stem), slug("-".join(relative.with_suffix("").parts))]
        numbered = (f"{candidates[-1]}-{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain(candidates, numbered) if n.lower() not in used)
        used.add(name.lower())
        named[name] = picture
    return named


def is_batch(path: Path) -> bool:
    return (path / BATCH_FILE).is_file()


def create(folder: Path, found: Gathered, path: Path | None, options: Options) -> Batch:
    """A new batch directory; one that died while it was being made is made anew.

    Raises `OutputError`.
    """
    fresh = path is None
    path = path or open_run.new_run_path(Path(OUTPUTS), folder.resolve())
    batch = Batch(path, job_names(folder, found.pictures), options, found.skipped)
    with as_output_error(path):
        if path.exists() and (not path.is_dir() or not all(map(_is_beginning, path.iterdir()))):
            way_on = "add --resume" if is_batch(path) else "choose another --output: it is no batch"
            raise OutputError(f"{path} is not empty", way_on)
    with as_output_error(path), NewFolder(path, fresh) as made:
        save(batch)
        made.keep()
    return batch


def _is_beginning(entry: Path) -> bool:
    """Whether an entry of a directory is one that making a batch leaves there when it dies."""
    return entry.name in LOCK_FILES or is_temporary(entry.name, r"batch\.json")


def join(known: Batch, folder: Path, found: Gathered, options: Options) -> Batch:
    """A batch that is gone on with, and the pictures that have come since."""
    old = {path.resolve() for path in known.pictures.values()}
    new = [picture for picture in found.pictures if picture.resolve() not in old]
    merged = {**known.pictures, **job_names(folder, new, known.pictures)}
    batch = Batch(known.path, merged, options, found.skipped)
    save(batch)
    return batch


def save(batch: Batch) -> None:
    options = batch.options
    write_json(
        batch.path / BATCH_FILE,
        {
            "pictures": {name: str(path.resolve()) for name, path in batch.pictures.items()},
            "skipped": [[str(one.path), one.reason] for one in batch.skipped],
            "options": {
                "profile": options.profile,
                "config_file": str(options.config_file.resolve()) if options.config_file else None,
                "sets": list(options.sets),
                "seed": options.seed,
                "until": options.until,
                "device": options.device,
                "target_vram": options.target_vram,
                "host_ram": options.host_ram,
                "caption": options.caption,
                "fast": options.fast,
                "allow_tf32": options.allow_tf32,
                "background": options.background,
                "formats": list(options.formats),
                "report": options.report,
                "keep": options.keep,
            },
        },
    )


def load(path: Path) -> Batch:
    """A batch that was begun earlier. Raises `RunRecordError`."""
    try:
        kept = _Kept.model_validate(json_data(read_limited(path / BATCH_FILE, JSON_BYTES)))
        config_file = kept.options.pop("config_file", None)
        options = TypeAdapter(Options).validate_python(kept.options)
        options = replace(options, config_file=_path(config_file) if config_file else None)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        raise RunRecordError(f"{path / BATCH_FILE} cannot be read: {what}", _ANEW) from error
    except (OSError, ValueError) as error:
        raise RunRecordError(f"{path / BATCH_FILE} cannot be read: {error}", _ANEW) from error
    skipped = tuple(Skipped(file, reason) for file, reason in kept.skipped)
    return Batch(path, kept.pictures, options, skipped)


_ANEW = "`kiss3d-orchestrate batch DIR` makes it anew"


def _path(value: object) -> Path:
    """pydantic's own refuses a file's name that is no UTF-8."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("it is no path")
    os.fsencode(value)  # raises ValueError for what no file's name can be
    return Path(value)


AnyPath = Annotated[Path, PlainValidator(_path)]


class _Kept(BaseModel):
    """The whole of batch.json."""

    pictures: dict[JobName, AnyPath]
    skipped: list[tuple[AnyPath, str]] = []
    options: dict[str, Any]
