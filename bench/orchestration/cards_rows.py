"""What the records of a batch tell of its cards: pictures a minute in each node, and where the time
of each card went. A batch becomes a row that is kept as JSON, and rows become tables."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.full_scale.bench import manifest
from orchestrator.system.text import format_table


@dataclass
class Node:
    """When pictures began and ended in a node, by the clock, and how many processes worked."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    processes: int = 0

    @property
    def a_minute(self) -> float:
        """0 where it is not known."""
        if len(self.ended) < 2:
            return 0.0
        return 60.0 * len(self.ended) / (max(self.ended) - min(self.began))


@dataclass(frozen=True)
class Work:
    """One job that was done on a card. started: by the clock; seconds, of which it computed for
    `compute`."""

    card: str
    node: str
    pid: int
    started: float
    seconds: float
    compute: float

    @property
    def ended(self) -> float:
        return self.started + self.seconds


@dataclass(frozen=True)
class Measured:
    """A batch: seconds of the command, pictures that were through at its end, its nodes, and the
    jobs on its cards.

    busy  `cards_busy` of summary.json; None: it has none, or the batch was ended before it wrote it
    """

    cards: str
    pictures: int
    seconds: float
    through: int
    nodes: dict[str, Node]
    work: list[Work]
    busy: float | None

    @property
    def a_minute(self) -> float:
        return 60.0 * self.through / self.seconds


_ROW = TypeAdapter(Measured)


def save(measured: Measured, file: Path) -> None:
    """Append a row."""
    with file.open("ab") as stream:
        stream.write(_ROW.dump_json(measured) + b"\n")


def load(file: Path) -> list[Measured]:
    return [_ROW.validate_json(line) for line in file.read_bytes().splitlines()]


def events_of(batch: Path) -> Iterator[dict[str, Any]]:
    """All events of a batch's runs so far."""
    for file in batch.glob("*/events.jsonl"):
        for line in file.read_text().splitlines():
            if line.endswith("}"):  # the last one may be just being written
                yield json.loads(line)


def through(batch: Path) -> dict[str, int]:
    """Node -> pictures that have come through it so far."""
    return {name: len(node.ended) for name, node in _times(batch).items() if node.ended}


def _times(batch: Path) -> dict[str, Node]:
    found: dict[str, Node] = defaultdict(Node)
    for event in events_of(batch):
        if event["event"] in ("started", "done"):
            node = found[event["node"]]
            times = node.began if event["event"] == "started" else node.ended
            times.append(event["time"])
    return found


def nodes_and_work(batch: Path) -> tuple[dict[str, Node], list[Work]]:
    """Of a batch that has ended, or was stopped: its nodes, and the jobs done on cards."""
    nodes, work = _times(batch), []
    pids: dict[str, set[int]] = defaultdict(set)
    for file in batch.glob("*/run.json"):
        for name, record in manifest(file.parent).nodes.items():
            for row in record.attempts:
                pids[name].add(row.pid)
                if row.card and row.outcome == "done":
                    compute = row.timings.get("compute", row.seconds)
                    work.append(Work(row.card, name, row.pid, row.started, row.seconds, compute))
    for name, node in nodes.items():
        node.processes = len(pids[name] - {0})
    return {name: node for name, node in nodes.items() if node.began}, work


@dataclass(frozen=True)
class Spent:
    """Shares, 0 to 1, of the time between the first job on any card and the end of the last.

    computed  by jobs; around: their reading and writing, and what else they took
    changing  from the end of a process's last job to the first one of the next on this card
    waiting   a process had loaded, and no job
    outside   before the card's first job and behind its last, while other cards worked
    """

    computed: float
    around: float
    changing: float
    waiting: float
    outside: float


def spent(work: Iterable[Work]) -> dict[str, Spent]:
    """Card -> where its time went."""
    cards: dict[str, list[Work]] = defaultdict(list)
    for job in sorted(work, key=lambda job: job.started):
        cards[job.card].append(job)
    every = [job for jobs in cards.values() for job in jobs]
    if not every:
        return {}
    whole = max(job.ended for job in every) - min(job.started for job in every)
    found = {}
    for card, jobs in sorted(cards.items()):
        computed = sum(job.compute for job in jobs)
        around = sum(job.seconds for job in jobs) - computed
        gaps = {True: 0.0, False: 0.0}
        for before, after in itertools.pairwise(jobs):
            gaps[before.pid == after.pid] += max(0.0, after.started - before.ended)
        rest = whole - computed - around - gaps[True] - gaps[False]
        shares = (computed, around, gaps[False], gaps[True], rest)
        found[card] = Spent(*(share / whole if whole else 0.0 for share in shares))
    return found


def node_table(every: Sequence[Measured], order: Sequence[str]) -> str:
    """A row a node, and those of the whole; `x` is the first against the last of `every`."""
    header = ["node"]
    for measured in every:
        header += [f"{measured.cards}: pictures", "processes", "a minute"]
    rows = []
    for name in order:
        if not any(name in measured.nodes for measured in every):
            continue
        nodes = [measured.nodes.get(name, Node()) for measured in every]
        cells = [name]
        for node in nodes:
            rate = f"{node.a_minute:.1f}" if node.a_minute else "-"
            cells += [str(len(node.ended)), str(node.processes), rate]
        rows.append([*cells, _ratio(nodes[0].a_minute, nodes[-1].a_minute)])
    cells = ["whole"]
    for measured in every:
        rate = f"{measured.a_minute:.2f}" if measured.through else "-"
        cells += [str(measured.through), f"{measured.seconds:.0f} s", rate]
    rows.append([*cells, _ratio(every[0].a_minute, every[-1].a_minute)])
    each = [f"{one.seconds / one.through:.1f}" if one.through else "-" for one in every]
    busy = ["-" if one.busy is None else f"{one.busy:.1%}" for one in every]
    for name, values in (("s a picture", each), ("busy", busy)):
        rows.append([name, *itertools.chain(*(("", "", value) for value in values)), ""])
    return format_table([*header, f"x {every[-1].cards}"], rows)


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}" if one and other else "-"


def card_table(every: Sequence[Measured]) -> str:
    """A row a batch and card: where its time went."""
    rows = []
    for measured in every:
        for card, where in spent(measured.work).items():
            shares = (
                where.computed,
                where.around,
                where.changing,
                where.waiting,
                where.outside,
            )
            jobs = [job for job in measured.work if job.card == card]
            rows.append(
                [measured.cards, card, str(len(jobs)), *(f"{share:.1%}" for share in shares)]
            )
    header = ("batch", "card", "jobs", "computed", "around", "changing", "waiting", "outside")
    return format_table(header, rows)
