"""`batch merge`: what became of all shards of a batch, as if one machine had worked on it.

It reads the shards' records and writes beside them alone, so that it may be repeated, and asked
while shards still work: what is not there yet is named.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.commands import batch_directory, batch_inputs, pages, shards
from orchestrator.commands.batch import Outcome, outcome_of, write_summary
from orchestrator.commands.batch_directory import SUMMARY, Batch
from orchestrator.commands.pictures import shortlist
from orchestrator.commands.subject import Subject
from orchestrator.errors import KissError, RunRecordError
from orchestrator.record.run_directory import MANIFEST, RunDirectory
from orchestrator.system.locks import as_output_error, directory_lock, in_use
from orchestrator.system.reading import JSON_BYTES, json_data, read_limited
from orchestrator.system.text import valid_text

PartState = Literal["done", "failed", "running", "interrupted", "missing", "empty"]
MISSING = "missing"
"""State of a picture that no shard has begun."""
_UNFINISHED = (MISSING, "running", "interrupted")
_MOST = 10
"""Names that are told of a shard."""


@dataclass(frozen=True)
class Part:
    """What became of a shard.

    state  empty: it has no pictures; missing: nobody has begun it; interrupted: it ended before
           its work did, or was killed; failed: it is through, and not all of it is good
    """

    shard: shards.Shard
    path: Path
    state: PartState
    outcomes: tuple[Outcome, ...]

    @property
    def unfinished(self) -> list[str]:
        """Names of the pictures that are not through."""
        return [one.name for one in self.outcomes if one.state in _UNFINISHED]

    def row(self) -> dict[str, Any]:
        """For --json and summary.json."""
        return {
            "shard": str(self.shard),
            "batch": str(self.path.resolve()),
            "state": self.state,
            "jobs": len(self.outcomes),
            "good": sum(one.good for one in self.outcomes),
            "unfinished": self.unfinished,
        }


@dataclass(frozen=True)
class Merged:
    """All shards of a directory, put together.

    batch     the whole, as if it were one batch
    outcomes  of all pictures, in the order of the list
    new       what has come to the folder or list since the shards were laid out: no part of them
    """

    batch: Batch
    outcomes: tuple[Outcome, ...]
    parts: tuple[Part, ...]
    new: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [part.row() for part in self.parts]

    def lines(self) -> Iterator[str]:
        """What is not finished, shard by shard, and what has come since, for people."""
        by_state = Counter(part.state for part in self.parts)
        told = ", ".join(f"{number} {state}" for state, number in sorted(by_state.items()))
        yield f"shards: {len(self.parts)}: {told}"
        for part in self.parts:
            if names := part.unfinished:
                yield (
                    f"shard {part.shard} {_WORDS[part.state]}: {len(names)} of "
                    f"{len(part.outcomes)} to do: {shortlist(names, _MOST)}"
                )
        if self.new:
            yield (
                f"no part of these shards, as they came later: {shortlist(self.new, _MOST)} "
                "(another --output takes them)"
            )


_WORDS: dict[PartState, str] = {
    "missing": "was never begun",
    "running": "is running",
    "interrupted": "was interrupted, the same command goes on with it",
    "failed": "has ended",
    "done": "has ended",
    "empty": "has no pictures",
}


def merge(path: Path) -> Merged:
    """Put the shards in a directory together, and write its summary.json, summary.csv and page.

    Raises `RunRecordError` for a directory without shards, `RunLockedError` or `OutputError`.
    """
    if not shards.is_sharded(path):
        more = "it is one batch, with a summary" if batch_directory.is_batch(path) else "no shards"
        raise RunRecordError(
            f"{path}: {more if path.is_dir() else 'it does not exist'}",
            "name the --output of `batch ... --shard I/N`",
        )
    layout = shards.load(path)
    parts = parts_of(layout)
    by_name = {one.name: one for part in parts for one in part.outcomes}
    outcomes = tuple(by_name[name] for name in layout.whole.jobs)
    merged = Merged(layout.whole, outcomes, parts, tuple(_new(layout)))
    with directory_lock(path, seconds=_WAIT_SECONDS), as_output_error(path):
        write_summary(layout.whole, outcomes, {"shards": merged.rows, "new": list(merged.new)})
        if layout.whole.options.report:
            folders = {one.name: part.path.name for part in parts for one in part.outcomes}
            pages.write_index(
                path,
                [(f"{folders[o.name]}/{o.name}", o.subject, o.run, _told(o)) for o in outcomes],
            )
    return merged


def parts_of(layout: shards.Layout) -> tuple[Part, ...]:
    """What has become of each shard by now."""
    return tuple(_part(layout, shard) for shard in layout.shards)


_WAIT_SECONDS = 60.0
"""For another one that merges just now."""


def _told(outcome: Outcome) -> str:
    """What its card on the page says besides its state."""
    return outcome.error or ("" if outcome.run else f"{outcome.state}: no run directory yet")


def _part(layout: shards.Layout, shard: shards.Shard) -> Part:
    batch = layout.part(shard)
    if not batch.jobs:
        return Part(shard, batch.path, "empty", ())
    works = in_use(batch.path)
    begun = batch_directory.is_batch(batch.path)
    refused = _refused(batch.path)
    outcomes = tuple(
        _outcome(batch.path / name, subject, works, refused) for name, subject in batch.jobs.items()
    )
    states = {one.state for one in outcomes}
    state: PartState = "done" if states == {"done"} else "failed"
    if works:
        state = "running"
    elif not begun:
        state = "missing"
    elif states & set(_UNFINISHED):
        state = "interrupted"
    return Part(shard, batch.path, state, outcomes)


def _outcome(
    path: Path, subject: Subject, works: bool, refused: dict[str, tuple[str, str]]
) -> Outcome:
    """What became of one picture. works: a process is at its shard."""
    try:
        outcome = outcome_of(path.name, subject, RunDirectory.open(path))
    except RunRecordError as error:
        if (path / MANIFEST).exists():
            return Outcome(path.name, subject, None, "failed", error.message, error.hint)
        if path.name in refused and not works:
            return Outcome(path.name, subject, None, "failed", *refused[path.name])
        return Outcome(path.name, subject, None, "running" if works else MISSING, "")
    if outcome.state == "running" and not works:
        return replace(outcome, state="interrupted")
    return outcome


def _refused(path: Path) -> dict[str, tuple[str, str]]:
    """Name -> error and hint of the pictures that got no run directory, by a shard's summary."""
    try:
        rows = json_data(read_limited(path / SUMMARY, JSON_BYTES))["jobs"]
        return {
            str(row["name"]): (str(row["error"]), str(row["hint"]))
            for row in rows
            if row["state"] == "failed" and not row["run"]
        }
    except (OSError, ValueError, KeyError, TypeError):  # none yet
        return {}


def _new(layout: shards.Layout) -> Iterator[str]:
    """What `batch` would take now, and is no part of the shards."""
    terms = layout.terms
    with contextlib.suppress(KissError, OSError):  # it is not to be seen from here
        found = batch_inputs.find_inputs(
            Path(terms["source"]), terms["glob"] or None, terms["recursive"], terms["profile"]
        )
        known = [batch_directory.kept_subject(one) for one in layout.whole.jobs.values()]
        seen = {str(one) for one in known}
        for listed in found.listed:
            if str(batch_directory.kept_subject(listed.subject)) not in seen:
                yield str(valid_text(listed.subject.title))


def document(merged: Merged, report: str, skipped: Sequence[dict[str, str]]) -> dict[str, Any]:
    """For --json: what a batch of one machine tells, and of each shard a row."""
    good = sum(one.good for one in merged.outcomes)
    return {
        "batch": str(merged.batch.path.resolve()),
        "good": good,
        "failed": len(merged.outcomes) - good,
        "jobs": [one.row() for one in merged.outcomes],
        "skipped": list(skipped),
        "report": report,
        "shards": merged.rows,
        "new": list(merged.new),
    }
