"""Whole directories: every picture a job of one runner, stage-major, one bad file fails alone."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import models, opening, report, runs
from orchestrator.artifacts import BATCH_FILE, MANIFEST, RunDirectory, directory_lock
from orchestrator.cache import FOLDER, CacheIndex
from orchestrator.errors import (
    InputFileError,
    InterruptedRunError,
    KissError,
    OutputError,
    RunRecordError,
    UsageError,
    command,
)
from orchestrator.files import slug, write_atomic, write_json
from orchestrator.progress import Observer
from orchestrator.request import Options, Prepared, require_card

LOGS = "logs"


@dataclass(frozen=True)
class Batch:
    """A batch directory: pictures by job name, and the request they share."""

    path: Path
    pictures: dict[str, Path]
    options: Options


@dataclass(frozen=True)
class Outcome:
    """One picture's end. `run` is None when it could not even be opened."""

    name: str
    picture: Path
    run: RunDirectory | None
    state: str
    error: str
    hint: str = ""

    @property
    def good(self) -> bool:
        return self.state == "done"

    @property
    def note(self) -> str:
        """What there is to tell of it besides its state: why it failed and what to do, what is
        degraded."""
        if self.error:
            return str(KissError(self.error, self.hint))
        costs = self.run.manifest.degraded if self.run else {}
        return "; ".join(f"degraded: {node}: {cost}" for node, cost in costs.items())

    def row(self) -> dict[str, Any]:
        manifest = self.run.manifest if self.run else None
        mesh = self.run.path / "result" / "mesh.glb" if self.run else None
        return {
            "name": self.name,
            "input": str(self.picture),
            "state": self.state,
            "error": self.error,
            "hint": self.hint,
            "degraded": "; ".join(manifest.degraded.values()) if manifest else "",
            "run": str(self.run.path) if self.run else "",
            "mesh": str(mesh) if mesh and mesh.is_file() else "",
            "compute_seconds": round(_compute_seconds(self.run), 3),
        }


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
            kept["profile"],
            config_file,
            tuple(kept["sets"]),
            kept["seed"],
            kept["until"],
            None,
            kept["device"],
            float(kept.get("target_vram", 0.0)),
            float(kept.get("host_ram", 0.0)),
            kept.get("caption"),
            bool(kept.get("fast", False)),
            bool(kept.get("allow_tf32", False)),
        )
        pictures = {str(name): Path(picture) for name, picture in data["pictures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunRecordError(f"{path / BATCH_FILE} cannot be read: {error}") from error
    return Batch(path, pictures, options)


def require_weights(
    prepared: Prepared, pictures: Sequence[Path], known: Batch | None, path: Path | None
) -> None:
    """Refuse when a picture's node that will run lacks a card or weights; writes nothing.

    known: the batch that is gone on with. path: of the new one, if it was chosen.
    Raises `UsageError` or `MissingWeightsError`.
    """

    def will_run() -> set[str]:
        cache = _cache_beside(known.path if known else path or Path(opening.OUTPUTS) / "new")
        found = set()
        for output, picture in [*_runs_of(known), *((None, picture) for picture in pictures)]:
            with contextlib.suppress(KissError):  # a bad file fails alone, later
                found |= runs.to_run(runs.predict_picture(prepared, picture, output, cache))
        return found

    require_card(prepared, will_run)
    models.require(prepared.graph, bool(prepared.cards), will_run)


def _runs_of(known: Batch | None) -> Iterator[tuple[Path, Path]]:
    """(run directory, picture) of each job; a picture that is gone left its copy there."""
    if known is None:
        return
    for name, picture in known.pictures.items():
        path = known.path / name
        if not picture.exists() and (path / MANIFEST).is_file():
            picture = RunDirectory.open(path).input_path
        yield path, picture


def _cache_beside(path: Path) -> CacheIndex | None:
    """The index of the folder that a batch lies in, if it has one."""
    beside = path.parent == Path(opening.OUTPUTS) or (path.parent / FOLDER).is_dir()
    return CacheIndex(path.parent) if beside else None


def execute(
    batch: Batch,
    prepared: Prepared,
    observer: Observer,
    fail_fast: bool = False,
    on_end: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """Run the whole batch; files that cannot be opened fail alone, before any process starts.

    Writes summary.json and summary.csv however it ends; on_end hears the outcomes first.
    """
    with directory_lock(batch.path):
        outcomes: dict[str, Outcome] = {}
        opened: list[tuple[str, RunDirectory]] = []
        for name, picture in batch.pictures.items():
            try:
                run = opening.open_or_create(prepared, picture, batch.path / name)
                run.discard_partial()
                opened.append((name, run))
            except KissError as error:
                outcomes[name] = Outcome(name, picture, None, "failed", error.message, error.hint)
        logs = batch.path / LOGS
        logs.mkdir(exist_ok=True)
        cache = _cache_beside(batch.path)
        try:
            if opened and not (fail_fast and outcomes):
                runs.execute(prepared, opened, observer, cache, logs, fail_fast=fail_fast)
        except InterruptedRunError as error:
            raise InterruptedRunError(error.message, command("resume", batch.path)) from error
        finally:
            for name, run in opened:
                manifest = run.manifest
                outcomes[name] = Outcome(
                    name, batch.pictures[name], run, manifest.state, manifest.error, _hint(run)
                )
            ordered = [outcomes[name] for name in batch.pictures]
            on_end(ordered)
            _write_summary(batch.path, ordered)
    return ordered


def _hint(run: RunDirectory) -> str:
    """What the failed node's last attempt says to do next."""
    failed = (node for node in run.manifest.nodes.values() if node.state == "failed")
    return next((node.attempts[-1].hint for node in failed if node.attempts), "")


def _compute_seconds(run: RunDirectory | None) -> float:
    if run is None:
        return 0.0
    return sum(
        attempt.timings.get("compute", 0.0)
        for node in run.manifest.nodes.values()
        for attempt in node.attempts
    )


def _write_summary(path: Path, outcomes: Sequence[Outcome]) -> None:
    rows = [outcome.row() for outcome in outcomes]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    document = {
        "written": time.time(),
        "good": sum(outcome.good for outcome in outcomes),
        "failed": sum(not outcome.good for outcome in outcomes),
        "jobs": rows,
        "runs": {o.name: report.summary(o.run) for o in outcomes if o.run},
    }
    with contextlib.suppress(OSError):  # a full disk has been reported job by job
        write_json(path / "summary.json", document)
        # A name that is no UTF-8 (b"caf\xe9.png") is shown as summary.json shows it.
        write_atomic(path / "summary.csv", text.getvalue().encode(errors="backslashreplace"))


def iter_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """Rows for the table at the end of a batch."""
    for outcome in outcomes:
        row = outcome.row()
        yield (
            outcome.name,
            outcome.state,
            f"{row['compute_seconds']:.2f}",
            str(row["mesh"]) or "-",
        )
