"""What a shard costs, and what Ray adds: the same pictures as one batch, as shards, and by Ray.

    python -m bench.orchestration.shards [--pictures 16] [--shards 4] [--seconds 0.2] [--repeats 3]

Fake stages; one takes --seconds for each picture. All ways have one place to work at, so that they
do the same one after another: a batch of all; `--shard I/N` for each I, one command behind the
other; `batch --ray` with a cluster of two cores that stands already.

a shard   what a way takes longer than the batch of all, by the number of shards
a picture the same by the number of pictures
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from bench.robustness.forked import install_fakes
from devtools.fakes import ray_nodes
from devtools.fakes.tools import cli_environment, command
from orchestrator.system.text import format_table

PLAIN, SHARDS, RAY = "batch", "batch --shard I/N", "batch --ray"


def furnish(folder: Path, pictures: int, seconds: float) -> None:
    (folder / "in").mkdir()
    for number in range(pictures):
        (folder / "in" / f"p{number}.txt").write_text(f"{number} 2 3")
    nodes = {
        "source": {"stage": "fake.source"},
        "trouble": {"stage": "fake.trouble", "params": {"seconds": seconds}},
        "sink": {"stage": "fake.sink"},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump({"profile": "none", "nodes": nodes}))


def call(folder: Path, *words: object) -> None:
    asked = ["batch", "in", "--glob", "*.txt", "--config", "c.yaml", "--no-report", *words]
    subprocess.run(
        command(*asked), cwd=folder, env=cli_environment(), check=True, capture_output=True
    )


def call_each(folder: Path, out: str, shards: int) -> None:
    for index in range(shards):
        call(folder, "--output", out, "--shard", f"{index}/{shards}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if asked.pictures != 4 * asked.shards or asked.shards > 8:
        parser.error("four pictures a shard and eight shards at most, as --ray cuts them by itself")
    with tempfile.TemporaryDirectory(prefix="shards-") as name:
        folder = Path(name)
        install_fakes(folder / "site")
        furnish(folder, asked.pictures, asked.seconds)
        with ray_nodes.opened(1, 2) as cluster:
            seconds = measure(folder, asked, cluster.address)
    print(table(seconds, asked.shards, asked.pictures))


def measure(folder: Path, asked: argparse.Namespace, address: str) -> dict[str, list[float]]:
    """Seconds of each way, in turns, so that a busy minute hits all alike."""
    ways: dict[str, Callable[[str], None]] = {
        PLAIN: lambda out: call(folder, "--output", out),
        SHARDS: lambda out: call_each(folder, out, asked.shards),
        RAY: lambda out: call(folder, "--output", out, "--ray", address),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    call(folder, "--output", "first")
    for turn in range(asked.repeats):
        for number, (name, way) in enumerate(ways.items()):
            began = time.perf_counter()
            way(f"{turn}-{number}")
            seconds[name].append(time.perf_counter() - began)
            print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    return seconds


def table(seconds: dict[str, list[float]], shards: int, pictures: int) -> str:
    plain = statistics.median(seconds[PLAIN])
    rows = []
    for name, found in seconds.items():
        wall = statistics.median(found)
        more = wall - plain
        a_shard = "-" if name == PLAIN else f"{more / shards:.2f}"
        a_picture = "-" if name == PLAIN else f"{more / pictures:.3f}"
        rows.append((name, f"{wall:.1f}", f"{wall / plain:.2f}", a_shard, a_picture))
    header = (f"{pictures} pictures, {shards} shards", "s", "x batch", "s a shard", "s a picture")
    return format_table(header, rows)


if __name__ == "__main__":
    main()
