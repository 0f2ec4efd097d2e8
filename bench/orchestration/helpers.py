"""How many processes are left when the parent is killed while a stage has helpers running.

    python -m bench.orchestration.helpers [--tries 200] [--at-once 2]

Each try runs a stage that starts a child, one in a session of its own, and a daemon that has left
its parent and its environment; kills the parent with SIGKILL at a random moment behind the first
helper's start; and looks three seconds later which of the run's processes are alive. Every other
run starts cold.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from devtools.fakes.misbehaviour import HELPERS
from devtools.fakes.running import alive, below
from orchestrator.system.text import format_table

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 3.0
ENTRY_POINTS = """[kiss3d.stages]
fake.source = devtools.fakes.stages:Source
fake.trouble = devtools.fakes.stages:Trouble
"""
CONFIG = """
profile: none
nodes:
  source: {{stage: fake.source}}
  trouble: {{stage: fake.trouble, params: {{mode: sleep, helpers: {pids!r}}}}}
"""


def environment(folder: Path) -> dict[str, str]:
    """One in which the fake stages are an installed package."""
    info = folder / "kiss3d_fakes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kiss3d-fakes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    paths = [str(folder), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(folder)}


def one_try(folder: Path, variables: dict[str, str], warm: bool) -> tuple[int, float]:
    """How many processes are alive three seconds after the kill, and when the last one went."""
    pids, picture, config = (folder / name for name in ("pids", "in.txt", "config.yaml"))
    picture.write_text("1 2 3")
    config.write_text(CONFIG.format(pids=str(pids)))
    command = [
        sys.executable, "-P", "-m", "orchestrator.cli", "run", str(picture),
        "--config", str(config), "--output", str(folder / "out"), *([] if warm else ["--no-warm"]),
    ]  # fmt: skip
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as parent:
        while not pids.is_file():
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.2))
        family = [child.pid for child in below(parent.pid)]
        parent.kill()
        killed = time.monotonic()
    gone = SECONDS
    while time.monotonic() < killed + SECONDS:
        known = {*family, *map(int, pids.read_text().split())}
        if not alive(known):
            gone = min(gone, time.monotonic() - killed)
        time.sleep(0.02)
    known = {*family, *map(int, pids.read_text().split())}
    left = alive(known)
    for pid in left:
        psutil.Process(pid).kill()
    return len(left), gone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        variables = environment(base)
        folders = [base / str(number) for number in range(arguments.tries)]
        for folder in folders:
            folder.mkdir()
        with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool:
            found = list(
                pool.map(
                    lambda folder: one_try(folder, variables, int(folder.name) % 2 == 0), folders
                )
            )
        rows = []
        for label, start in (("warm", 0), ("cold", 1)):
            left, seconds = zip(*found[start::2], strict=True)
            middle, most = statistics.median(seconds), max(seconds)
            rows.append((label, str(len(left)), str(sum(left)), f"{middle:.2f}", f"{most:.2f}"))
        folders_left = sum(not path.name.endswith(".dist-info") for path in base.glob("kiss3d[-]*"))
        print(format_table(("start", "tries", "left after 3 s", "median s", "most s"), rows))
        print(f"{HELPERS} helpers a try; private folders left: {folders_left}")


if __name__ == "__main__":
    main()
