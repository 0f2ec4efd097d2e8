"""How a batch grows with the cards of one machine: the same pictures on all of them, and on one.

    python -m bench.full_scale build --models M
    python -m bench.orchestration.cards --models M [--pictures 8] [--limit 150]
        [--on all one] [--until reconstruct] [--set multiview.steps=12 --set flux.steps=4]
    python -m bench.orchestration.cards --show M/runs/cards.jsonl

Random weights at full size, as `bench.full_scale` builds them. A batch that takes longer than
--limit seconds is stopped as by Ctrl-C, and what it had done by then counts. What is printed while
it works is a JSON line whenever pictures have come through a node. Each batch is a row of --out as
soon as it has ended, so the two may be commands of their own; the tables are of all its rows.

a minute     pictures from a node's first start to its last end, without the first process's loading
x 1 card     that against one card, where both have computed two pictures and more: 1.9 of two cards
             says that the second one brings 0.9
whole        of the command, from its start: loading, imports and the processor's stages included
s a picture  of the whole
busy         how much of the time between the first and the last job on a card the cards computed,
             as summary.json has it; the second table tells it by card, with what the rest was
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.full_scale.bench import ROBOT, Bench
from bench.full_scale.compare import copies
from bench.orchestration import cards_rows
from bench.orchestration.cards_rows import Measured
from orchestrator.pipeline import layers
from orchestrator.system.gpu import GpuMonitor

LOOK_SECONDS = 2.0
END_SECONDS = 30.0
"""For a batch that was stopped."""


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
            row = json.dumps(cards_rows.through(out))
            if row != told:
                told = row
                spent = round(time.monotonic() - began)
                print(f'{{"cards": "{cards}", "s": {spent}, "through": {row}}}', flush=True)
        seconds = time.monotonic() - began
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
    if child.returncode not in (0, 130):
        print((folder / "stderr").read_text()[-2000:], file=sys.stderr)
    nodes, work = cards_rows.nodes_and_work(out)
    through = len(nodes[last].ended) if last in nodes else 0
    busy = busy_share(out)
    return Measured(cards, arguments.pictures, seconds, through, nodes, work, busy)


def busy_share(batch: Path) -> float | None:
    """Of a batch that has ended, or was stopped; None where it could not write its summary."""
    file = batch / "summary.json"
    return json.loads(file.read_text())["cards_busy"] if file.is_file() else None


def show(every: Sequence[Measured], profile: str) -> str:
    order = list(layers.load(profile).profile.nodes)
    tables = [cards_rows.node_table(every, order)]
    if any(measured.work for measured in every):
        tables.append(cards_rows.card_table(every))
    return "\n\n".join(tables)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path)
    parser.add_argument("--profile", default="full_12gb")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--target", type=float, default=12.0, help="GiB a process; 0: no limit")
    parser.add_argument("--host", type=float, default=0.0, help="GiB of host RAM; 0: as it is")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds of each batch")
    parser.add_argument("--until", metavar="NODE", help="stop after this node")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--image", type=Path, default=ROBOT)
    parser.add_argument("--on", nargs="+", choices=("all", "one"), default=["all", "one"])
    parser.add_argument("--out", type=Path, help="JSON lines; default: MODELS/runs/cards.jsonl")
    parser.add_argument("--show", type=Path, nargs="+", help="only the tables of such files")
    parser.add_argument("--tiny", action="store_true", help="rehearse with tiny models on the CPU")
    arguments = parser.parse_args()
    if arguments.show:
        every = [row for file in arguments.show for row in cards_rows.load(file)]
        print(show(every, arguments.profile))
        return
    if arguments.models is None:
        parser.error("--models says where the checkpoints are")
    arguments.models = arguments.models.resolve()
    work = arguments.models / "runs"
    work.mkdir(exist_ok=True)
    out = arguments.out or work / "cards.jsonl"
    until = time.monotonic() + 3 * arguments.limit
    bench = Bench(arguments.models, work, out, arguments.tiny, arguments.image, until)
    found = len(GpuMonitor().gpus())
    ways = {"all": (f"{found} cards", "auto"), "one": ("1 card", "cuda:0")}
    if arguments.tiny:
        ways, arguments.target = {"all": ("the CPU", "cpu"), "one": ("once more", "cpu")}, 0.0
    elif found < 2 and "all" in arguments.on:
        parser.error(f"{found} cards: there is nothing to compare; --on one measures one")
    for name in arguments.on:
        cards, device = ways[name]
        cards_rows.save(measure(bench, arguments, cards, device), out)
    print(show(cards_rows.load(out), arguments.profile))


if __name__ == "__main__":
    main()
