"""Run a batch: every picture a job of one runner, stage-major, and what became of each."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import models, opening, report, runs
from orchestrator.artifacts import MANIFEST, RESULT, RunDirectory, directory_lock
from orchestrator.batches import LOGS, Batch
from orchestrator.errors import InterruptedRunError, KissError, command
from orchestrator.files import write_atomic, write_json
from orchestrator.progress import Observer
from orchestrator.request import Prepared, require_card


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
        degraded, what its stages warned of."""
        if self.error:
            return str(KissError(self.error, self.hint))
        if self.run is None:
            return ""
        manifest = self.run.manifest
        costs = [f"degraded: {node}: {cost}" for node, cost in manifest.degraded.items()]
        told = [f"warning: {text}" for texts in manifest.warnings.values() for text in texts]
        return "; ".join([*costs, *told])

    def row(self) -> dict[str, Any]:
        manifest = self.run.manifest if self.run else None
        mesh = self.run.path / RESULT / report.RESULT_FILES["glb"] if self.run else None
        return {
            "name": self.name,
            "input": str(self.picture),
            "state": self.state,
            "error": self.error,
            "hint": self.hint,
            "degraded": "; ".join(manifest.degraded.values()) if manifest else "",
            "warnings": "; ".join(text for texts in manifest.warnings.values() for text in texts)
            if manifest
            else "",
            "run": str(self.run.path) if self.run else "",
            "mesh": str(mesh) if mesh and mesh.is_file() else "",
            "compute_seconds": round(_compute_seconds(self.run), 3),
        }


def require_resources(
    prepared: Prepared, pictures: Sequence[Path], known: Batch | None, path: Path | None
) -> None:
    """Refuse when a picture's node that will run lacks a card or weights; writes nothing.

    known: the batch that is gone on with. path: of the new one, if it was chosen.
    Raises `UsageError` or `MissingWeightsError`.
    """

    def will_run() -> set[str]:
        cache = opening.cache_beside(known.path if known else path or Path(opening.OUTPUTS) / "new")
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
        cache = opening.cache_beside(batch.path)
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
