"""A batch's last words: what became of each picture, what failed, is degraded or was left out.

Pictures are called by their files' names here, for x.png and x.jpg lie in folders x and x-2.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.commands.batch import Outcome
from orchestrator.commands.batch_directory import LOGS, Batch
from orchestrator.commands.pictures import listed, shortlist
from orchestrator.record import belongings
from orchestrator.system.terminal import shortened, visible
from orchestrator.system.text import format_size

_MOST = 10
"""Pictures that are told of one by one; the others are in summary.json."""
_WIDEST = 48
"""Columns of a picture's name; the whole one is in summary.json."""
HEADER = ("input", "state", "stages s", "mesh")


def table_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """A row for each picture, below `HEADER`."""
    called = _file_names(outcomes)
    for outcome in outcomes:
        row = outcome.row()
        yield (
            called[outcome.name],
            outcome.state,
            f"{row['stage_seconds']:.1f}",
            str(row["mesh"]) or "-",
        )


def _file_names(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Job's name -> what its input is called: the words, or the file's path below the folder that
    holds them all."""
    files = {
        outcome.name: os.path.abspath(outcome.subject.source)
        for outcome in outcomes
        if outcome.subject.source is not None
    }
    try:
        above = os.path.commonpath([os.path.dirname(file) for file in files.values()])
    except ValueError:  # on several drives, or none at all
        above = ""
    names = {outcome.name: outcome.subject.title for outcome in outcomes} | {
        name: os.path.relpath(file, above) if above else file for name, file in files.items()
    }
    return {name: shortened(visible(file, one_line=True), _WIDEST) for name, file in names.items()}


def closing_lines(batch: Batch, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """For people, after the table of all pictures."""
    called = _file_names(outcomes)
    troubled = [outcome for outcome in outcomes if outcome.error]
    for outcome in troubled[:_MOST]:
        yield f"{called[outcome.name]}: {outcome.note}"
        if outcome.log:
            yield f"  log: {outcome.log}"
    if more := [called[outcome.name] for outcome in troubled[_MOST:]]:
        yield f"failed too: {shortlist(more, _MOST)}"
    for cost, names in _by_text((called[o.name], o.costs) for o in outcomes).items():
        yield f"degraded: {cost}: {shortlist(names, _MOST)}"
    for text, names in _by_text((called[o.name], o.warnings) for o in outcomes).items():
        yield f"warning: {text}: {shortlist(names, _MOST)}"
    if batch.skipped:
        yield f"skipped: {listed(batch.skipped)}"
    yield _counts(batch, outcomes)
    if alone := [outcome for outcome in outcomes if outcome.kept_alone]:
        size = format_size(sum(_size_of(outcome) for outcome in alone))
        also = ", --keep result mesh.obj" if batch.options.keep == "mesh" else ""
        yield f"kept: results alone, {size} (--keep all keeps what the stages made{also})"
    if troubled and (batch.path / LOGS).is_dir():
        yield f"logs of the stages: {batch.path / LOGS}"


def _size_of(outcome: Outcome) -> int:
    """Bytes of a picture's directory."""
    if outcome.run is None:
        return 0
    with contextlib.suppress(OSError), outcome.run.at_hand():
        return belongings.space(belongings.all_files(outcome.run).values())
    return 0


def _by_text(told: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """What was told -> the pictures that it was told of; whole batches are told the same."""
    found: dict[str, list[str]] = {}
    for name, texts in told:
        for text in texts:
            found.setdefault(visible(text, one_line=True), []).append(name)
    return found


def _counts(batch: Batch, outcomes: Sequence[Outcome]) -> str:
    states = Counter(outcome.state for outcome in outcomes if not outcome.good)
    other = {
        **dict(sorted(states.items())),
        "degraded": sum(bool(outcome.degraded) for outcome in outcomes),
        "with warnings": sum(bool(outcome.warnings) for outcome in outcomes),
        "skipped": len(batch.skipped),
    }
    good = f"{sum(outcome.good for outcome in outcomes)} of {len(outcomes)} good"
    return ", ".join([good, *(f"{number} {what}" for what, number in other.items() if number)])
