"""What a run would do, with what is missing for it: for `plan`, Python and the web page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.commands import run as runs
from orchestrator.commands.subject import Subject
from orchestrator.errors import MissingWeightsError, UsageError
from orchestrator.planning.options import Options
from orchestrator.planning.plan import PlanRow, plan_row
from orchestrator.planning.request import Prepared, prepare
from orchestrator.planning.shortages import card_shortage
from orchestrator.system.terminal import visible
from orchestrator.system.text import format_size, format_table
from orchestrator.weights import needs

PLAN_HEADER = ("node", "on", "plan", "VRAM", "margin", "host RAM", "seconds", "why")


def plan_cells(row: PlanRow) -> tuple[str, ...]:
    """A row of a plan's table, under `PLAN_HEADER`."""
    expected = row.expected
    return (
        row.node,
        row.ladder[0],
        "cached" if row.cached else "off" if row.off else "run",
        format_size(expected.vram) if expected else "-",
        "-" if row.device == "cpu" else "0.0 GiB" if row.margin == 0 else format_size(row.margin),
        format_size(expected.host) if expected else "-",
        f"{expected.seconds:.3g}" if expected and not row.cached else "-",
        row.reason,
    )


@dataclass(frozen=True)
class Plan:
    """A request that was checked, and started nothing.

    rows      a row for each node: where it runs, what it will take, whether it is cached, why
    weights   those that are missing, as an error; card: the same of a card
    """

    prepared: Prepared
    rows: tuple[PlanRow, ...]
    weights: MissingWeightsError | None
    card: UsageError | None

    @property
    def profile(self) -> str:
        return self.prepared.settings.name

    @property
    def reason(self) -> str:
        """Why it is that profile."""
        return self.prepared.reason

    @property
    def refusal(self) -> UsageError | None:
        """Why `run` would refuse, or None."""
        return self.weights or self.card

    @property
    def seconds(self) -> float | None:
        """About how long it takes, by the measurements; None where one is missing."""
        running = [row for row in self.rows if not row.cached and not row.off]
        if not all(row.expected for row in running):
            return None
        return sum(row.expected.seconds for row in running if row.expected)

    @property
    def on_card(self) -> bool:
        """Whether a stage that will run has its first rung on a card."""
        return any(row.device == "cuda" and not row.cached for row in self.rows)

    @property
    def vram(self) -> int:
        """The most that a node is expected to take of the card, in bytes; 0: none, or unknown."""
        return max((row.expected.vram for row in self.rows if row.expected), default=0)

    def __str__(self) -> str:
        """The plan as a table, and what is missing."""
        table = format_table(PLAN_HEADER, [plan_cells(row) for row in self.rows])
        told = [f"profile {self.profile} ({self.reason})", table]
        told += [f"cannot run: {error}" for error in (self.weights, self.card) if error]
        return visible("\n".join(told))


def make_plan(subject: Subject | None, output: Path | None, options: Options) -> Plan:
    """Check a request as `run` does. Raises `UsageError`s; writes and starts nothing.

    subject: None asks for any, of which nothing is in the cache.
    """
    prepared = prepare(options if subject is None else replace(options, start=subject.start))
    if subject is None:
        rows = tuple(
            plan_row(node, False, "", prepared.budget) for node in prepared.graph.nodes.values()
        )
    else:
        rows = tuple(runs.plan(prepared, subject, output))

    def will_run() -> set[str]:
        return runs.to_run(rows)

    given = subject.artifacts if subject else ()
    weights = needs.shortage(prepared.graph, bool(prepared.cards), will_run, given)
    return Plan(prepared, rows, weights, card_shortage(prepared, will_run))
