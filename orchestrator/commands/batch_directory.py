"""Batch directories: the jobs' names, on what terms; made, joined, read again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, PlainValidator, TypeAdapter, ValidationError, model_validator

from orchestrator.commands import open_run
from orchestrator.commands.batch_inputs import BatchInputs, Listed
from orchestrator.commands.pictures import Skipped
from orchestrator.commands.subject import PICTURE, Subject
from orchestrator.errors import OutputError, RunRecordError
from orchestrator.planning.options import Options
from orchestrator.record.manifest import FileName as JobName
from orchestrator.record.result_folder import INDEX_HTML
from orchestrator.record.run_directory import BATCH_LOGS, EVENTS, OUTPUTS
from orchestrator.system.atomic_files import write_json
from orchestrator.system.folders import NewFolder
from orchestrator.system.locks import (
    BATCH_FILE,
    CANDIDATES_FILE,
    LOCK_FILES,
    SHARDS_FILE,
    as_output_error,
)
from orchestrator.system.places import is_temporary
from orchestrator.system.reading import JSON_BYTES, json_data, read_limited

LOGS = BATCH_LOGS
SUMMARY, SUMMARY_TABLE = "summary.json", "summary.csv"
OWN = (SUMMARY, SUMMARY_TABLE, EVENTS, CANDIDATES_FILE, BATCH_FILE, SHARDS_FILE)
"""Files of a batch in its directory, besides its page. Those that make it a batch come last, so
that a half-removed one can be removed again."""


@dataclass(frozen=True)
class Batch:
    """A batch directory: subjects by job name, and the request they share.

    skipped: what of the folder or table is no input, when it was last looked at
    """

    path: Path
    jobs: dict[str, Subject]
    options: Options
    skipped: tuple[Skipped, ...] = ()


def job_names(found: Iterable[Listed], taken: Iterable[str] = ()) -> dict[str, Subject]:
    """A unique, path-safe name for each subject: the first of its own that is free, or numbered."""
    used = {LOGS, INDEX_HTML, *OWN, *LOCK_FILES, *(name.lower() for name in taken)}
    named: dict[str, Subject] = {}
    for listed in found:
        numbered = (f"{listed.names[-1]}-{number}" for number in itertools.count(2))
        every = itertools.chain(listed.names, numbered)
        name = next(n for n in every if n.lower() not in used)
        used.add(name.lower())
        named[name] = listed.subject
    return named


def is_batch(path: Path) -> bool:
    return (path / BATCH_FILE).is_file()


def new_batch(found: BatchInputs, path: Path | None, options: Options) -> Batch:
    """A new batch directory; one that died while it was being made is made anew.

    Raises `OutputError`.
    """
    fresh = path is None
    path = path or open_run.new_run_path(Path(OUTPUTS), found.name)
    batch = Batch(path, job_names(found.listed), options, found.skipped)
    create(batch, fresh)
    return batch


def create(batch: Batch, fresh: bool = False) -> None:
    """Make the directory of a batch, unless something else is there. Raises `OutputError`.

    fresh: it was made a moment ago, for this
    """
    path = batch.path
    with as_output_error(path):
        if path.exists() and (not path.is_dir() or not all(map(_is_beginning, path.iterdir()))):
            way_on = "add --resume" if is_batch(path) else "choose another --output: it is no batch"
            if (path / SHARDS_FILE).exists():
                way_on = "it is shared by shards: add --shard I/N, or choose another --output"
            raise OutputError(f"{path} is not empty", way_on)
    with as_output_error(path), NewFolder(path, [path] if fresh else ()) as made:
        save(batch)
        made.keep()


def _is_beginning(entry: Path) -> bool:
    """Whether an entry of a directory is one that making a batch leaves there when it dies."""
    return entry.name in LOCK_FILES or is_temporary(entry.name, r"batch\.json")


def join(known: Batch, found: BatchInputs, options: Options) -> Batch:
    """A batch that is gone on with, and what has come since."""
    old = [kept_subject(subject) for subject in known.jobs.values()]
    new = [one for one in found.listed if kept_subject(one.subject) not in old]
    merged = {**known.jobs, **job_names(new, known.jobs)}
    batch = Batch(known.path, merged, options, found.skipped)
    save(batch)
    return batch


def kept_subject(subject: Subject) -> dict[str, Any]:
    """A subject as batch.json has it."""
    files = {artifact: str(path.resolve()) for artifact, path in subject.files.items()}
    return {"files": files, "text": subject.text, "seed": subject.seed}


def save(batch: Batch) -> None:
    write_json(batch.path / BATCH_FILE, document(batch))


def document(batch: Batch) -> dict[str, Any]:
    """What `load` reads."""
    options = batch.options
    return {
        "jobs": {name: kept_subject(subject) for name, subject in batch.jobs.items()},
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
            "start": options.start,
            "views": options.views,
            "candidates": options.candidates,
        },
    }


def load(path: Path, name: str = BATCH_FILE) -> Batch:
    """A batch that was begun earlier, of the file that says what it is. Raises `RunRecordError`."""
    file = path / name
    try:
        kept = _Kept.model_validate(json_data(read_limited(file, JSON_BYTES)))
        config_file = kept.options.pop("config_file", None)
        options = TypeAdapter(Options).validate_python(kept.options)
        options = replace(options, config_file=_path(config_file) if config_file else None)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        raise RunRecordError(f"{file} cannot be read: {what}", _ANEW) from error
    except (OSError, ValueError) as error:
        raise RunRecordError(f"{file} cannot be read: {error}", _ANEW) from error
    skipped = tuple(Skipped(file, reason) for file, reason in kept.skipped)
    return Batch(path, {name: job.subject for name, job in kept.jobs.items()}, options, skipped)


_ANEW = "`kiss3d-orchestrate batch DIR` makes it anew"


def _path(value: object) -> Path:
    """pydantic's own refuses a file's name that is no UTF-8."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("it is no path")
    os.fsencode(value)  # raises ValueError for what no file's name can be
    return Path(value)


AnyPath = Annotated[Path, PlainValidator(_path)]


GivenFile = Literal[
    "input_image", "input_mask", "input_back", "input_left", "input_right", "input_mesh"
]


class _Subject(BaseModel):
    """One of its jobs."""

    files: dict[GivenFile, AnyPath] = {}
    text: str = ""
    seed: int | None = None

    @property
    def subject(self) -> Subject:
        files = {str(artifact): path for artifact, path in self.files.items()}
        return Subject(files, self.text, self.seed)


class _Kept(BaseModel):
    """The whole of batch.json."""

    jobs: dict[JobName, _Subject]
    skipped: list[tuple[AnyPath, str]] = []
    options: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Batches of the first version were of pictures alone."""
        if not isinstance(data, dict) or "pictures" not in data:
            return data
        pictures = data["pictures"]
        if not isinstance(pictures, dict):
            raise ValueError("pictures is no table")
        jobs = {name: {"files": {PICTURE: path}} for name, path in pictures.items()}
        return {"jobs": jobs, **{key: data[key] for key in data if key != "pictures"}}
