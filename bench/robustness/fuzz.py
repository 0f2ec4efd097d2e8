"""Give the program damaged pictures, records, configs and command lines: does it refuse them well?

    python -m bench.robustness.fuzz [--only pictures records] [--seed 1] [--first 0] [--count N]
        [--minutes M]
                         [--at-once 2] [--findings FILE]

Without --count 2,000 pictures and 10,000 records and configs. Case N depends on --seed and N alone,
so that --first and --count do a part, or one case again. A finding is whatever is neither a result
nor a refusal in words: a crash, a traceback, a hang, more CPU time or memory than the limits, a
control character on the terminal, something touched that is not the command's. Ends by itself and
leaves nothing; exit code 1 for findings, which are appended to FILE (fuzz-findings.jsonl) with the
command that repeats them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.robustness.forked import install_fakes
from bench.robustness.fuzz_pictures import Seen, numbers_to_pictures
from orchestrator.system.text import format_table
from stages.process.parent_watch import die_with_parent

COUNTS = {"pictures": 2_000, "records": 10_000}
HEADER = ("what", "cases", "accepted", "refused", "found wrong", "CPU s at most", "MiB at most")


def work(kind: str, base: str, seed: int, numbers: Any, answers: Any, parent: int) -> None:
    """In each worker: take numbers until there are no more, and tell what became of each."""
    die_with_parent(parent)

    def taken() -> Iterator[int]:
        while (number := numbers.get()) is not None:
            yield number

    try:
        if kind == "pictures":
            for number, seen in numbers_to_pictures(seed, taken()):
                answers.put((number, "picture", seen))
        else:
            from bench.robustness.fuzz_records import Fuzz, prepare_worker

            prepare_worker()
            fuzz = Fuzz(Path(base) / f"records-{os.getpid()}", seed)
            for number in taken():
                answers.put((number, *fuzz.look(number)))
    finally:
        answers.put(None)


def cases(
    kind: str, base: Path, seed: int, numbers: range, at_once: int, until: float
) -> Iterator[tuple[int, str, Seen]]:
    """Do the cases of these numbers, several at once, and begin none after `until`."""
    spawn = multiprocessing.get_context("spawn")
    asked, answers = spawn.Queue(), spawn.Queue()
    workers = [
        spawn.Process(target=work, args=(kind, str(base), seed, asked, answers, os.getpid()))
        for _ in range(at_once)
    ]
    for worker in workers:
        worker.start()
    waiting = iter(numbers)
    out = 0
    while True:
        while out < 2 * at_once and time.monotonic() < until:
            number = next(waiting, None)
            if number is None:
                break
            asked.put(number)
            out += 1
        if not out:
            break
        answer = answers.get()
        if answer is None:
            raise RuntimeError("a worker ended before its time")
        out -= 1
        yield answer
    for _ in workers:
        asked.put(None)
    for worker in workers:
        worker.join()


def table(done: dict[str, list[Seen]]) -> str:
    rows = []
    for name, seen in sorted(done.items()):
        counted = Counter(one.how for one in seen)
        rows.append(
            (
                name,
                str(len(seen)),
                str(counted["fine"]),
                str(counted["refused"]),
                str(counted["error"]),
                f"{max(one.seconds for one in seen):.1f}",
                str(max(one.memory for one in seen) >> 20),
            )
        )
    return format_table(HEADER, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(COUNTS), default=list(COUNTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, help="cases of each kind")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no case after so long")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings.jsonl"))
    asked = parser.parse_args()
    until = time.monotonic() + asked.minutes * 60
    done: dict[str, list[Seen]] = defaultdict(list)
    wrong = 0
    with (
        contextlib.suppress(KeyboardInterrupt),  # what is done is told all the same
        tempfile.TemporaryDirectory(prefix="fuzz-") as name,
    ):
        base = Path(name)
        install_fakes(base / "site")
        for kind in asked.only:
            count = COUNTS[kind] if asked.count is None else asked.count
            numbers = range(asked.first, asked.first + count)
            for number, row, seen in cases(kind, base, asked.seed, numbers, asked.at_once, until):
                done[row].append(seen)
                if seen.how == "error":
                    wrong += 1
                    again = (
                        f"bench.robustness.fuzz --only {kind} --seed {asked.seed} --first {number}"
                    )
                    told = {"what": row, "wrong": seen.why, "again": f"python -m {again} --count 1"}
                    with asked.findings.open("a") as stream:
                        stream.write(json.dumps(told) + "\n")
    print(table(done))
    if wrong:
        print(f"{wrong} findings in {asked.findings}")
        sys.exit(1)


if __name__ == "__main__":
    main()
