"""A batch's last words: what failed, is degraded or was left out, by name, and where to look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.batch_run import Outcome
from orchestrator.batches import LOGS, Batch
from orchestrator.pictures import listed, shortlist

_MOST = 10
"""Pictures that are told of one by one; the others are in summary.json."""


def closing_lines(batch: Batch, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """For people, after the table of all pictures."""
    troubled = [outcome for outcome in outcomes if outcome.error]
    for outcome in troubled[:_MOST]:
        yield f"{outcome.name}: {outcome.note}"
        if outcome.log:
            yield f"  log: {outcome.log}"
    if more := [outcome.name for outcome in troubled[_MOST:]]:
        yield f"failed too: {shortlist(more, _MOST)}"
    for cost, names in _by_text((o.name, o.costs) for o in outcomes).items():
        yield f"degraded: {cost}: {shortlist(names, _MOST)}"
    for text, names in _by_text((o.name, o.warnings) for o in outcomes).items():
        yield f"warning: {text}: {shortlist(names, _MOST)}"
    if batch.skipped:
        yield f"skipped: {listed(batch.skipped)}"
    yield _counts(batch, outcomes)
    if troubled:
        yield f"logs of the stages: {batch.path / LOGS}"


def _by_text(told: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """What was told -> the pictures that it was told of; whole batches are told the same."""
    found: dict[str, list[str]] = {}
    for name, texts in told:
        for text in texts:
            found.setdefault(text, []).append(name)
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
