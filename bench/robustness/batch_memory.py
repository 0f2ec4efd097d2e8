"""The memory and open files of a batch's parent while thousands of jobs go through it.

    python -m bench.robustness.batch_memory [--jobs 5000] [--every 500] [--keep mesh] [--no-report]
        [--by-stage]

Fake stages. A row whenever so many jobs more are through, and one for the most that it took in the
end, when it writes summary.json and the gallery. KB a job is what has been added since the first
row, for each job that came through since.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from bench.robustness.forked import Place, install_fakes
from bench.robustness.soak_tries import GONE_SECONDS, HANG_SECONDS, prepare_worker
from bench.robustness.soak_workers import furnish
from orchestrator.system.text import format_table

LOOK_SECONDS = 0.1
_THROUGH = re.compile(rb"batch: (\d+) of \d+ pictures")


def through(text: Path, seen: int) -> int:
    """Jobs that are through by now, of what the batch tells on stderr; `seen`: so many before."""
    with text.open("rb") as stream:
        stream.seek(max(0, text.stat().st_size - 4096))
        told = _THROUGH.findall(stream.read())
    return int(told[-1]) if told else seen


def load_weights(root: Path) -> None:
    """Have a stage of the profile load weights, so that its batches go by stage."""
    config, weights = root / "c.yaml", root / "own.safetensors"
    profile = yaml.safe_load(config.read_text())
    weights.write_bytes(b"weights")
    profile["nodes"]["trouble"]["params"] = {"needs": [str(weights)]}
    config.write_text(yaml.safe_dump(profile))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--keep", choices=("all", "result", "mesh"), default="mesh")
    parser.add_argument("--no-report", action="store_true", help="no pages")
    parser.add_argument("--by-stage", action="store_true", help="as where models are loaded")
    asked = parser.parse_args()
    rows: list[tuple[str, int, int, float]] = []
    most = 0
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        install_fakes(Path(name) / "site")
        prepare_worker()
        place = Place(Path(name) / "place")
        words = [word for word in furnish(place.root, asked.jobs) if word != "--no-report"]
        words[words.index("--keep") + 1] = asked.keep
        if asked.by_stage:
            load_weights(place.root)
        words += ["out", *(["--no-report"] if asked.no_report else [])]
        began, seen = time.monotonic(), 0
        running = place.start(*words)
        watched = psutil.Process(running.pid)
        while running.poll() is None:
            time.sleep(LOOK_SECONDS)
            seen = through(Path(f"{place.root}.text"), seen)
            try:
                memory, files = watched.memory_info().rss, watched.num_fds()
            except psutil.Error:
                break
            most = max(most, memory)
            if seen >= asked.every * (len(rows) + 1):
                rows.append((str(seen), memory, files, time.monotonic() - began))
                print(f"{seen} of {asked.jobs} through, {memory >> 20} MiB", flush=True)
        ended = running.wait(HANG_SECONDS)
        took = time.monotonic() - began
        good = ended.code == 0
        if not good:
            print(ended.text[-2000:], file=sys.stderr)
        place.await_end(GONE_SECONDS)
    told = [
        (jobs, f"{memory / 2**20:.0f}", str(files), _growth(rows, row), f"{seconds:.0f}")
        for row in rows
        for jobs, memory, files, seconds in [row]
    ]
    told.append(("the end, at most", f"{most / 2**20:.0f}", "", "", f"{took:.0f}"))
    print(format_table(("jobs through", "MiB", "open files", "KB a job", "s"), told))
    sys.exit(0 if good else 1)


def _growth(rows: list[tuple[str, int, int, float]], row: tuple[str, int, int, float]) -> str:
    first = rows[0]
    jobs = int(row[0]) - int(first[0])
    return f"{(row[1] - first[1]) / jobs / 1000:.1f}" if jobs else ""


if __name__ == "__main__":
    main()
