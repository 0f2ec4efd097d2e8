"""Kill the parent, the guard, the template and stages at random; every result has to be right.

    python -m bench.robustness.soak [--only parent child opening batch] [--seed 1] [--first 0]
        [--count N]
                         [--minutes M] [--at-once 2] [--pictures 500] [--kills 25]
                         [--findings FILE]

Fake stages, about two seconds a try, no torch. What an undisturbed run leaves is compared with what
a disturbed one leaves, file by file. Kinds of tries, and how many of them without --count:

    parent   500 runs whose command is killed, once to three times, and resumed
    child    500 runs of which a stage, the template or the guard gets SIGKILL, SIGSEGV or SIGSTOP
    opening  200 batches killed while they make their runs, half of them as a power cut leaves them
    batch      4 batches of 500 pictures, each killed 25 times

Try N of a kind depends on --seed and N alone (and on the machine's timing), so that --first and
--count do a part, or one try again. Ends by itself and leaves nothing; exit code 1 for findings,
which are appended to FILE (soak-findings.jsonl) with the command that repeats them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.robustness.forked import install_fakes
from bench.robustness.soak_tries import Soak, Try, prepare_worker
from orchestrator.system.text import format_table
from stages.process.parent_watch import die_with_parent

COUNTS = {"parent": 500, "child": 500, "opening": 200, "batch": 4}
HEADER = ("what", "tries", "faults", "found wrong", "folders left", "all gone after, s", "s a try")

_soak: Soak | None = None


def _begin(base: str, seed: int, pictures: int, kills: int, parent: int) -> None:
    """In each worker."""
    global _soak
    die_with_parent(parent)
    prepare_worker()
    _soak = Soak(Path(base) / str(os.getpid()), seed, pictures, kills)


def _one(task: tuple[str, int]) -> tuple[str, Try]:
    assert _soak is not None
    return task[0], _soak.one(*task)


def tries(
    base: Path, tasks: Sequence[tuple[str, int]], asked: argparse.Namespace
) -> Iterator[tuple[str, Try]]:
    """Do the tasks, so many at once, and begin none when the time is up."""
    until = time.monotonic() + asked.minutes * 60
    waiting = iter(tasks)
    with concurrent.futures.ProcessPoolExecutor(
        asked.at_once,
        multiprocessing.get_context("spawn"),
        _begin,
        (str(base), asked.seed, asked.pictures, asked.kills, os.getpid()),
    ) as pool:
        running = {pool.submit(_one, task) for task in itertools.islice(waiting, asked.at_once)}
        while running:
            done, running = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for one in done:
                yield one.result()
                if time.monotonic() < until:
                    running |= {pool.submit(_one, task) for task in itertools.islice(waiting, 1)}


def table(done: Sequence[Try]) -> str:
    rows = []
    for name in sorted({one.row for one in done}):
        these = [one for one in done if one.row == name]
        rows.append(
            (
                name,
                str(len(these)),
                str(sum(one.faults for one in these)),
                str(sum(bool(one.wrong) for one in these)),
                str(sum(one.folders for one in these)),
                f"{max(one.gone for one in these):.2f}",
                f"{sum(one.seconds for one in these) / len(these):.1f}",
            )
        )
    return format_table(HEADER, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(COUNTS), default=list(COUNTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--count", type=int, help="tries of each kind")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no try after so long")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=500, help="of a large batch")
    parser.add_argument("--kills", type=int, default=25, help="of each large batch")
    parser.add_argument("--findings", type=Path, default=Path("soak-findings.jsonl"))
    asked = parser.parse_args()
    tasks = [
        (kind, asked.first + number)
        for kind in asked.only
        for number in range(COUNTS[kind] if asked.count is None else asked.count)
    ]
    done: list[Try] = []
    with (
        contextlib.suppress(KeyboardInterrupt),  # what is done is told all the same
        tempfile.TemporaryDirectory(prefix="soak-") as name,
    ):
        install_fakes(Path(name) / "site")
        for kind, one in tries(Path(name), tasks, asked):
            done.append(one)
            if one.wrong:
                again = (
                    f"python -m bench.robustness.soak --only {kind} --seed {asked.seed} --count 1 "
                    f"--first {one.number} --pictures {asked.pictures} --kills {asked.kills}"
                )
                row = {"what": one.row, "wrong": one.wrong, "again": again}
                with asked.findings.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    print(table(done))
    if len(done) < len(tasks):
        print(f"{len(done)} of {len(tasks)} tries")
    if wrong := sum(bool(one.wrong) for one in done):
        print(f"{wrong} findings in {asked.findings}")
        sys.exit(1)


if __name__ == "__main__":
    main()
