"""Batch directories: which pictures, under which names, on what terms; made, joined, read again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import opening
from orchestrator.artifacts import BATCH_FILE
from orchestrator.errors import InputFileError, OutputError, RunRecordError, UsageError
from orchestrator.files import slug, write_json
from orchestrator.request import Options

LOGS = "logs"


@dataclass(frozen=True)
class Batch:
    """A batch directory: pictures by job name, and the request they share."""

    path: Path
    pictures: dict[str, Path]
    options: Options


def find_pictures(folder: Path, glob: str | None, recursive: bool) -> list[Path]:
    """Picture files of a directory, sorted. Raises `UsageError` when there are none."""
    if not folder.is_dir():
        raise InputFileError(f"{folder} is not a directory", "`run` takes a single picture")
    pattern = glob or "*"
    try:
        found = list(folder.rglob(pattern) if recursive else folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f'--glob "{pattern}": {error}', 'e.g. --glob "*.png"') from error
    pictures = [
        path
        for path in sorted(found, key=lambda path: (len(path.parts), path))
        if path.is_file() and (glob is not None or path.suffix.lower() in opening.SUFFIXES)
    ]
    if not pictures:
        what = f'files that match "{glob}"' if glob else f"pictures ({' '.join(opening.SUFFIXES)})"
        deeper = "" if recursive else "--recursive looks into subdirectories"
        raise UsageError(f"no {what} in {folder}", deeper)
    return pictures


def job_names(folder: Path, pictures: Sequence[Path], taken: Iterable[str] = ()) -> dict[str, Path]:
    """A unique, path-safe name for each picture: its stem, with more where stems collide."""
    used = {LOGS, *(name.lower() for name in taken)}
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


def create(folder: Path, pictures: Sequence[Path], path: Path | None, options: Options) -> Batch:
    """A new batch directory. Raises `OutputError`."""
    root = Path(opening.OUTPUTS)
    path = path or opening.new_run_path(root, folder.resolve())
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        way_on = "add --resume" if is_batch(path) else "choose another --output: it is no batch"
        raise OutputError(f"{path} is not empty", way_on)
    batch = Batch(path, job_names(folder, pictures), options)
    try:
        path.mkdir(parents=True, exist_ok=True)
        save(batch)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
    return batch


def join(known: Batch, folder: Path, pictures: Sequence[Path], options: Options) -> Batch:
    """A batch that is gone on with, and the pictures that have come since."""
    old = {path.resolve() for path in known.pictures.values()}
    new = [picture for picture in pictures if picture.resolve() not in old]
    merged = {**known.pictures, **job_names(folder, new, known.pictures)}
    batch = Batch(known.path, merged, options)
    save(batch)
    return batch


def save(batch: Batch) -> None:
    options = batch.options
    write_json(
        batch.path / BATCH_FILE,
        {
            "pictures": {name: str(path.resolve()) for name, path in batch.pictures.items()},
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
            },
        },
    )


def load(path: Path) -> Batch:
    """A batch that was begun earlier. Raises `RunRecordError`."""
    try:
        data = json.loads((path / BATCH_FILE).read_text())
        kept = data["options"]
        config_file = Path(kept["config_file"]) if kept["config_file"] else None
        options = Options(
            profile=kept["profile"],
            config_file=config_file,
            sets=tuple(kept["sets"]),
            seed=kept["seed"],
            until=kept["until"],
            device=kept["device"],
            target_vram=float(kept.get("target_vram", 0.0)),
            host_ram=float(kept.get("host_ram", 0.0)),
            caption=kept.get("caption"),
            fast=bool(kept.get("fast", False)),
            allow_tf32=bool(kept.get("allow_tf32", False)),
            background=kept.get("background"),
        )
        pictures = {str(name): Path(picture) for name, picture in data["pictures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunRecordError(f"{path / BATCH_FILE} cannot be read: {error}") from error
    return Batch(path, pictures, options)
