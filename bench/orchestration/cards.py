"""How a batch grows with the cards of one machine: the same pictures on all of them, and on one.

    python -m bench.full_scale build --models M
    python -m bench.orchestration.cards --models M [--pictures 8] [--limit 150]
        [--until reconstruct] [--set multiview.steps=12 --set flux.steps=4]

Random weights at full size, as `bench.full_scale` builds them. A batch that takes longer than
--limit seconds is stopped as by Ctrl-C, and what it had done by then counts. What is printed while
it works is a JSON line whenever pictures have come through a node.

a minute  pictures from a node's first start to its last end, loading of the first process left out
x one     that against one card, where both have computed two pictures and more: 1.9 of two cards
          says that the second one brings 0.9
whole     of the command, from its start: loading, imports and the processor's stages included
busy      how much of the time between the first and the last job on a card the cards computed, as
          summary.json has it
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.full_scale.bench import ROBOT, Bench, manifest
from bench.full_scale.compare import copies
from orchestrator.pipeline import layers
from orchestrator.system.gpu import GpuMonitor
from orchestrator.system.text import format_table

LOOK_SECONDS = 2.0
END_SECONDS = 30.0
"""For a batch that was stopped."""


@dataclass
class Node:
    """When pictures began and ended in a node, by the clock, and the processes that worked."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    @property
    def a_minute(self) -> float:
        """0 where it is not known."""
        if len(self.ended) < 2:
            return 0.0
        return 60.0 * len(self.ended) / (max(self.ended) - min(self.began))


@dataclass(frozen=True)
class Measured:
    """A batch: seconds of the command, pictures that were through at its end, and its nodes."""

    cards: str
    seconds: float
    through: int
    nodes: dict[str, Node]
    busy: float | None

    @property
    def a_minute(self) -> float:
        return 60.0 * self.through / self.seconds


def events_of(batch: Path) -> Iterator[dict[str, object]]:
    """All events of a batch's runs so far."""
    for file in batch.glob("*/events.jsonl"):
        for line in file.read_text().splitlines():
            if line.endswith("}"):  # the last one may be just being written
                yield json.loads(line)


def nodes_of(batch: Path) -> dict[str, Node]:
    found: dict[str, Node] = defaultdict(Node)
    for event in events_of(batch):
        if event["event"] in ("started", "done"):
            node = found[str(event["node"])]
            times = node.began if event["event"] == "started" else node.ended
            times.append(float(str(event["time"])))
    for file in batch.glob("*/run.json"):
        for name, record in manifest(file.parent).nodes.items():
            found[name].pids.update(attempt.pid for attempt in record.attempts if attempt.pid)
    return {name: node for name, node in found.items() if node.began}


def measure(bench: Bench, arguments: argparse.Namespace, cards: str, device: str) -> Measured:
    """One batch on some cards, and what it told."""
    folder = Path(tempfile.mkdtemp(prefix=f"cards-{device.replace(':', '-')}-", dir=bench.work))
    copies(bench.image, folder / "pictures", arguments.pictures)
    out = folder / "out"
    command: list[object] = [sys.executable, "-m", "orchestrator.cli", "batch", folder / "pictures"]
    command += ["--output", out, "--device", device, "--keep", "all", "--json"]
    command += ["--profile", arguments.profile, "--config", bench.layer(arguments.profile)]
    command += ["--target-vram", arguments.target] if arguments.target else []
    command += bench.sets(arguments.profile, arguments.sets)
    command += ["--host-ram", arguments.host] if arguments.host else []
    command += ["--until", arguments.until] if arguments.until else []
    last = arguments.until or list(layers.load(arguments.profile).profile.nodes)[-1]
    began, told = time.monotonic(), ""
    with (folder / "stderr").open("wb") as stderr:
        child = subprocess.Popen(
            [str(word) for word in command],
            env=bench.environment(),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        while child.poll() is None and time.monotonic() < began + arguments.limit:
            time.sleep(LOOK_SECONDS)
            row = {name: len(node.ended) for name, node in nodes_of(out).items() if node.ended}
            if json.dumps(row) != told:
                told = json.dumps(row)
                spent = round(time.monotonic() - began)
                print(json.dumps({"cards": cards, "s": spent, "through": row}), flush=True)
        seconds = time.monotonic() - began
        nodes = nodes_of(out)
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
    if child.returncode not in (0, 130):
        print((folder / "stderr").read_text()[-2000:], file=sys.stderr)
    through = len(nodes[last].ended) if last in nodes else 0
    return Measured(cards, seconds, through, nodes, busy_share(out))


def busy_share(batch: Path) -> float | None:
    """Of a batch that has ended, or was stopped; None where it could not write its summary."""
    file = batch / "summary.json"
    return json.loads(file.read_text())["cards_busy"] if file.is_file() else None


def table(every: Sequence[Measured], order: Sequence[str]) -> str:
    """A row a node, and one of the whole; the last of `every` is one card."""
    one = every[-1]
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
            cells += [str(len(node.ended)), str(len(node.pids)), rate]
        both = nodes[0].a_minute and nodes[-1].a_minute
        rows.append([*cells, f"{nodes[0].a_minute / nodes[-1].a_minute:.2f}" if both else "-"])
    cells = ["whole"]
    for measured in every:
        rate = f"{measured.a_minute:.2f}" if measured.through else "-"
        cells += [str(measured.through), f"{measured.seconds:.0f} s", rate]
    both = all(measured.through for measured in every)
    rows.append([*cells, f"{every[0].a_minute / one.a_minute:.2f}" if both else "-"])
    cells = ["busy"]
    for measured in every:
        cells += ["-" if measured.busy is None else f"{measured.busy:.0%}", "", ""]
    rows.append([*cells, ""])
    return format_table([*header, "x one"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--profile", default="full_12gb")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--target", type=float, default=12.0, help="GiB a process; 0: no limit")
    parser.add_argument("--host", type=float, default=0.0, help="GiB of host RAM; 0: as it is")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds of each batch")
    parser.add_argument("--until", metavar="NODE", help="stop after this node")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--image", type=Path, default=ROBOT)
    parser.add_argument("--tiny", action="store_true", help="rehearse with tiny models on the CPU")
    arguments = parser.parse_args()
    arguments.models = arguments.models.resolve()
    work = arguments.models / "runs"
    work.mkdir(exist_ok=True)
    until = time.monotonic() + 3 * arguments.limit
    bench = Bench(
        arguments.models, work, work / "cards.jsonl", arguments.tiny, arguments.image, until
    )
    found = len(GpuMonitor().gpus())
    ways = {f"{found} cards": "auto", "1 card": "cuda:0"}
    if arguments.tiny:
        ways, arguments.target = {"the CPU": "cpu", "once more": "cpu"}, 0.0
    elif found < 2:
        parser.error(f"{found} cards: there is nothing to compare")
    every = [measure(bench, arguments, cards, device) for cards, device in ways.items()]
    print(table(every, list(layers.load(arguments.profile).profile.nodes)))


if __name__ == "__main__":
    main()
