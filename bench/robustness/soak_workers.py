"""One batch on several workers while its processes are killed: no job lost, wrong, or done twice.

    python -m bench.robustness.soak_workers [--jobs 1000] [--workers 4] [--shards 32] [--every 3]
        [--drivers 3] [--minutes M] [--seed 1] [--ray]

Jobs of fake stages. First one machine does them all, undisturbed: what it leaves is what is right,
and its memory and open files are watched meanwhile. Then the workers do them, while every few
seconds a stage, template, guard or worker gets SIGKILL, and at times the driver with all workers at
once; what is left is gone on with by the same command.

Without --ray the workers are commands `batch --shard I/N`, so many at once, and what was killed is
begun again, as a Slurm array requeues its tasks. With it, they are tasks of a Ray cluster of this
machine, and the driver is `batch --ray`. Ends by itself; exit code 1 for anything that is wrong. No
kill is made after --minutes, so that it ends soon after.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.robustness import soak_drivers
from bench.robustness.forked import Place, install_fakes
from bench.robustness.soak_drivers import Driver, Victims
from bench.robustness.soak_tries import GONE_SECONDS, HANG_SECONDS, NODES, prepare_worker
from devtools.fakes.tools import leftovers
from orchestrator.system.atomic_files import digest_file
from orchestrator.system.text import format_size, format_table

WHOLE, MANY = "whole", "many"
LOOK_SECONDS = 0.1
KINDS = ("stage", "stage", "template", "guard", "worker")
"""Of what is killed, chosen evenly: most of a batch's processes are stages."""


@dataclass
class Wrong:
    """What must be 0, each by itself."""

    lost: int = 0
    corrupt: int = 0
    redone: int = 0
    processes: int = 0
    folders: int = 0
    locks: int = 0
    told: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        counts = (self.lost, self.corrupt, self.redone, self.processes, self.folders, self.locks)
        return any(counts) or bool(self.told)


@dataclass(frozen=True)
class Parent:
    """The parent of a batch, watched: (seconds, bytes in memory, open files) at times."""

    seen: list[tuple[float, int, int]] = field(default_factory=list)

    def look(self, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            self.seen.append((time.monotonic(), process.memory_info().rss, process.num_fds()))
        except psutil.Error:
            return

    def at(self, share: float) -> tuple[int, int]:
        """Memory and open files when this share of the time was over."""
        if not self.seen:
            return 0, 0
        _, memory, files = self.seen[min(int(share * len(self.seen)), len(self.seen) - 1)]
        return memory, files


class Finished:
    """Nodes that were seen to be finished while the batch was worked on, with their attempts."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seen: dict[Path, dict[str, object]] = {}
        self._over: set[Path] = set()

    def look(self) -> None:
        """Remember what is finished now."""
        for record in self._out.glob("*/*/run.json"):
            if record in self._over:
                continue
            run = json.loads(record.read_text())
            self._seen[record] = {**self._seen.get(record, {}), **_done(run)}
            if run["state"] == "done":
                self._over.add(record)

    def redone(self) -> int:
        """How many of them are not as they were seen."""
        count = 0
        for record, nodes in self._seen.items():
            now = _done(json.loads(record.read_text()))
            count += sum(now.get(name) != attempts for name, attempts in nodes.items())
        return count


def _done(run: dict[str, Any]) -> dict[str, object]:
    """Finished nodes of a record -> their attempts."""
    nodes = run["nodes"].items()
    return {name: node["attempts"] for name, node in nodes if node["state"] == "done"}


def furnish(place: Path, jobs: int) -> list[str]:
    """Pictures and a profile in a folder; the command of the batch, but for its output."""
    (place / "in").mkdir()
    for number in range(jobs):
        (place / "in" / f"p{number}.txt").write_text(f"{number} 2 3")
    nodes = {
        name: {"stage": f"fake.{name}", "attempts": [{"tries": 10}], "load_timeout": 20.0}
        for name in NODES
    }
    nodes["source"]["params"] = {"repeat": 20}
    runtime = {"heartbeat_interval": 0.2, "heartbeat_timeout": 5.0, "stop_grace": 0.5}
    profile = {"profile": "none", "nodes": nodes, "runtime": runtime}
    (place / "c.yaml").write_text(yaml.safe_dump(profile))
    what = ["batch", "in", "--glob", "*.txt", "--config", "c.yaml", "--keep", "all"]
    return [*what, "--no-report", "--output"]


def undisturbed(place: Place, command: list[str]) -> Parent:
    """One batch of one machine. Its own process is watched."""
    parent = Parent()
    running = place.start(*command, WHOLE)
    while running.poll() is None:
        parent.look(running.pid)
        time.sleep(LOOK_SECONDS)
    ended = running.wait(HANG_SECONDS)
    if ended.code != 0:
        raise RuntimeError(f"an undisturbed batch failed: {ended}")
    place.await_end(GONE_SECONDS)
    return parent


def disturbed(
    asked: argparse.Namespace, place: Place, driver: Driver, victims: Victims, wrong: Wrong
) -> Counter[str]:
    """Have the batch done while processes are killed; how many of each kind were."""
    rng = random.Random(asked.seed)
    finished = Finished(place.root / MANY)
    kills: Counter[str] = Counter()
    kind = rng.choice(KINDS)
    began = time.monotonic()
    until = began + 60 * asked.minutes
    next_kill = began + asked.first
    drivers = [began + asked.first + asked.every * (1.5 + 4 * n) for n in range(asked.drivers)]
    driver.start()
    while not driver.over():
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        if now > until + HANG_SECONDS:
            wrong.told.append(f"hang: no end {HANG_SECONDS:g} s after the last kill")
            driver.kill()
            break
        if now > until:
            continue
        if drivers and now >= drivers[0]:
            drivers.pop(0)
            finished.look()
            driver.kill()
            kills["driver"] += 1
            wrong.processes += victims.await_end(GONE_SECONDS)
            driver.start()
        elif now >= next_kill:
            finished.look()
            if victims.hit(kind, rng):
                kills[kind] += 1
                kind = rng.choice(KINDS)
                next_kill = now + asked.every * rng.uniform(0.5, 1.5)
    wrong.told += driver.wrong
    wrong.redone = finished.redone()
    wrong.processes += victims.await_end(GONE_SECONDS)
    return kills


def check(place: Place, wrong: Wrong) -> None:
    """Hold what the workers left to what the one machine did."""
    right, found = results(place.root / WHOLE), results(place.root / MANY)
    jobs = {name.partition("/")[0] for name in right}
    wrong.lost = len(jobs - {name.partition("/")[0] for name in found})
    differ = {name.partition("/")[0] for name, what in found.items() if right.get(name) != what}
    lacks = {name.partition("/")[0] for name in right.keys() - found.keys()}
    wrong.corrupt = len(differ | lacks) - wrong.lost
    wrong.locks = len(leftovers(place.root / MANY))
    wrong.folders = len(place.private_folders())


def results(out: Path) -> dict[str, str]:
    """job/node/file -> digest, of all jobs that are done, whatever shard they were in."""
    found = {}
    for record in out.rglob("run.json"):
        run = record.parent
        if json.loads(record.read_text())["state"] != "done":
            continue
        for folder in (run / name for name in (*NODES, "result")):
            for path in folder.rglob("*"):
                if path.is_file() and path.suffix not in (".log", ".html"):
                    found[f"{run.name}/{path.relative_to(run)}"] = digest_file(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument(
        "--every", type=float, default=3.0, help="seconds between kills, on average"
    )
    parser.add_argument("--first", type=float, default=3.0, help="seconds before the first kill")
    parser.add_argument("--drivers", type=int, default=3, help="kills of the driver")
    parser.add_argument("--minutes", type=float, default=60.0, help="kill nothing after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ray", action="store_true", help="the workers are tasks of Ray")
    asked = parser.parse_args()
    wrong = Wrong()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        install_fakes(Path(name) / "site")
        prepare_worker()
        place = Place(Path(name) / "place")
        command = furnish(place.root, asked.jobs)
        began = time.monotonic()
        parent = undisturbed(place, command)
        alone = time.monotonic() - began
        with soak_drivers.opened(asked, place, [*command, MANY]) as (driver, victims):
            began = time.monotonic()
            kills = disturbed(asked, place, driver, victims, wrong)
            took = time.monotonic() - began
        check(place, wrong)
    killed = ", ".join(f"{kind} {count}" for kind, count in sorted(kills.items()))
    rows = [
        ("jobs, workers, shards", f"{asked.jobs}, {asked.workers}, {asked.shards}"),
        ("by", "batch --ray" if asked.ray else "batch --shard I/N, requeued"),
        ("killed", killed or "nothing"),
        ("commands given", str(driver.commands)),
        ("lost", str(wrong.lost)),
        ("corrupt", str(wrong.corrupt)),
        ("finished nodes redone", str(wrong.redone)),
        ("processes left", str(wrong.processes)),
        ("private folders with sockets left", str(wrong.folders)),
        ("locks and half files left", str(wrong.locks)),
        ("seconds, undisturbed on one", f"{took:.0f}, {alone:.0f}"),
    ]
    for share in (0.25, 0.5, 0.9):
        memory, files = parent.at(share)
        text = f"{format_size(memory)}, {files} open files"
        rows.append((f"the one's parent at {share:.0%}", text))
    print(format_table(("soak", ""), rows))
    for line in wrong.told:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
