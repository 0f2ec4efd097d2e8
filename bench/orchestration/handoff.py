"""Hand a 64 MiB float32 array from one process to another: our transport beside others.

    python -m bench.orchestration.handoff [--mib 64] [--repeats 7]

Ours is what happens between two stages: the child writes a .npy, the parent checks and renames it,
the next child maps and reads it. Baseline: memcpy into fresh pages of 4 KiB, which is what a file's
pages are; numpy's own arrays get huge pages where the system has them, and that memcpy stands
beside it. Every way is timed from the moment the sender has the array to the moment the
receiver has summed all of it, in the same run; each receiver's summing alone is shown as well.
fsync and digest run behind the hand-over (orchestrator.running.durable_writer) and are shown apart.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from orchestrator.record.handover import accept_artifact
from orchestrator.record.manifest import InputRecord, Manifest
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system.atomic_files import sync_and_digest
from orchestrator.system.text import format_table
from stages.contract import ArtifactSpec, codec
from stages.process.protocol import Part

SPEC = ArtifactSpec("payload", "array", "random numbers", ("N",), "float32")


def consume(array: np.ndarray) -> float:
    """Touch every byte, as a stage would."""
    return float(array.sum(dtype=np.float64))


def time_memcpy(array: np.ndarray, huge_pages: bool) -> float:
    """Copy into memory that was never touched, with or without huge pages."""
    pages = mmap.mmap(-1, array.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE if huge_pages else mmap.MADV_NOHUGEPAGE)
    copy = np.frombuffer(pages, array.dtype)
    began = time.perf_counter()
    np.copyto(copy, array)
    elapsed = time.perf_counter() - began
    assert copy[-1] == array[-1]
    return elapsed


def time_sum(array: np.ndarray) -> float:
    began = time.perf_counter()
    consume(array)
    return time.perf_counter() - began


def _receive_files(pipe: Connection) -> None:
    while (path := pipe.recv()) is not None:
        pipe.send(consume(codec.read(SPEC, [Path(path)])))


def _receive_pickle(pipe: Connection) -> None:
    while (array := pipe.recv()) is not None:
        pipe.send(consume(array))


class Ours:
    """Child writes, parent accepts, next child maps. The path travels as a small message."""

    def __init__(self, folder: Path) -> None:
        record = InputRecord(source="", file="input.img", size=0, digest="")
        self._run = RunDirectory(folder, Manifest(given={"input_image": record}))
        self._folder = self._run.node_folder("bench")
        self._pipe, theirs = multiprocessing.Pipe()
        self._child = multiprocessing.Process(target=_receive_files, args=(theirs,))
        self._child.start()

    def send(self, array: np.ndarray) -> float:
        temp = self._folder / ".payload.npy.bench.part"
        # A node's first output has no predecessor; replacing one would time the old one's removal.
        (self._folder / "payload.npy").unlink(missing_ok=True)
        began = time.perf_counter()
        with temp.open("wb") as stream:
            codec.write_payload(stream, array)
            size = stream.tell()
        accept_artifact(
            self._run.inside,
            "bench",
            SPEC,
            [Part(file="payload.npy", size=size, temp=temp.name)],
            b"",
        )
        self._pipe.send(str(self._folder / "payload.npy"))
        self._pipe.recv()
        return time.perf_counter() - began

    def make_durable(self) -> float:
        began = time.perf_counter()
        sync_and_digest(self._folder / "payload.npy")
        return time.perf_counter() - began

    def close(self) -> None:
        self._pipe.send(None)
        self._child.join()


class PickledPipe:
    """multiprocessing.Pipe, which pickles."""

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._child = multiprocessing.Process(target=_receive_pickle, args=(theirs,))
        self._child.start()

    def send(self, array: np.ndarray) -> float:
        began = time.perf_counter()
        self._pipe.send(array)
        self._pipe.recv()
        return time.perf_counter() - began

    def close(self) -> None:
        self._pipe.send(None)
        self._child.join()


def median_ms(measure: Callable[[], float], repeats: int) -> float:
    measure()
    return 1000.0 * statistics.median(measure() for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the run directory lies")
    arguments = parser.parse_args()
    array = np.random.default_rng(0).random(arguments.mib << 18, dtype=np.float32)
    repeats = arguments.repeats
    copying = median_ms(lambda: time_memcpy(array, huge_pages=False), repeats)
    copying_huge = median_ms(lambda: time_memcpy(array, huge_pages=True), repeats)
    summing = median_ms(lambda: time_sum(array), repeats)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        ours, pipe = Ours(Path(folder)), PickledPipe()
        via_files = median_ms(lambda: ours.send(array), repeats)
        durable = median_ms(ours.make_durable, repeats)
        via_pipe = median_ms(lambda: pipe.send(array), repeats)
        ours.close()
        pipe.close()
    rows = [
        ("memcpy, fresh 4 KiB pages (baseline)", copying, copying),
        ("memcpy, fresh huge pages", copying_huge, copying_huge),
        ("ours: .npy + rename + map", via_files, via_files - summing),
        ("multiprocessing.Pipe (pickle)", via_pipe, via_pipe - summing),
        ("summing alone", summing, 0.0),
        ("fsync + digest, behind the hand-over", durable, durable),
    ]
    table = [
        (name, f"{total:.1f}", f"{alone:.1f}", f"{alone / copying:.2f}")
        for name, total, alone in rows
    ]
    header = (f"{arguments.mib} MiB float32", "ms", "ms without summing", "x memcpy")
    print(format_table(header, table))


if __name__ == "__main__":
    main()
