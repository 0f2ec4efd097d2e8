"""Byte ranges of files into memory that is already there, by several threads.

One thread copies from the page cache at a fraction of the link's rate, and a drive needs several
requests at once, so a range is cut into chunks that all threads share. `preadv` reads at an offset
straight into the target and holds no lock; where it is missing (Windows), each thread has a file
object of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stages.contract import StageError

CHUNK = 8 * 2**20
"""Bytes of one request: large enough to cost nothing to hand out, small enough to share a block
of 0.21 GiB among 16 threads."""


@dataclass(frozen=True)
class Piece:
    """nbytes at `offset` of a file, and where they go in the target."""

    path: Path
    offset: int
    nbytes: int
    at: int


class Reading:
    """A read that is under way."""

    def __init__(self, futures: Sequence[Future[None]]) -> None:
        self._futures = futures

    def done(self) -> bool:
        return all(future.done() for future in self._futures)

    def cancel(self) -> None:
        """Give up what has not begun. The target may be written until `done`."""
        for future in self._futures:
            future.cancel()

    def result(self) -> None:
        """Wait for the end. Raises what went wrong in a thread: StageError (missing_weights)."""
        wait(self._futures, return_when=FIRST_EXCEPTION)
        for future in self._futures:
            future.result()

    def settle(self) -> None:
        """Wait until nothing is written to the target any more; failures do not matter."""
        wait(self._futures)


class FileReader:
    """A pool of threads that read. Close it: it holds threads and open files."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="weights")
        self._files = _Files()

    def start(self, pieces: Sequence[Piece], target: memoryview) -> Reading:
        """Begin to read all pieces into `target` (writable bytes)."""
        futures = []
        for piece in pieces:
            futures.append(self._pool.submit(self._files.advise, piece))
            for begin in range(0, piece.nbytes, CHUNK):
                size = min(CHUNK, piece.nbytes - begin)
                part = target[piece.at + begin : piece.at + begin + size]
                futures.append(
                    self._pool.submit(self._files.read, piece.path, piece.offset + begin, part)
                )
        return Reading(futures)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._files.close()


class _Files:
    """Open files by path; safe to use from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: dict[Path, int] = {}
        self._own = threading.local()
        self._streams: list[BinaryIO] = []

    def advise(self, piece: Piece) -> None:
        """Tell the system which range comes next: the drive is busy before the threads are."""
        if hasattr(os, "posix_fadvise") and hasattr(os, "preadv"):
            # A hint that is refused changes nothing; a file that is missing shows when read.
            with contextlib.suppress(OSError):
                os.posix_fadvise(
                    self._descriptor(piece.path),
                    piece.offset,
                    piece.nbytes,
                    os.POSIX_FADV_WILLNEED,
                )

    def read(self, path: Path, offset: int, target: memoryview) -> None:
        """Fill `target`. Raises StageError (missing_weights)."""
        done = 0
        try:
            while done < len(target):
                got = self._read_some(path, offset + done, target[done:])
                if got == 0:
                    raise StageError(
                        "missing_weights",
                        f"the weights {path} end at byte {offset + done}: the file was truncated "
                        "while it was in use",
                        "fetch them again: kiss3d-orchestrate models pull NAME",
                    )
                done += got
        except OSError as error:
            raise StageError(
                "missing_weights",
                f"the weights {path} cannot be read: {error}",
                "check the drive, or fetch them again: kiss3d-orchestrate models pull NAME",
            ) from error

    def _read_some(self, path: Path, offset: int, target: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor(path), [target], offset)
        stream = self._stream(path)
        stream.seek(offset)
        return stream.readinto(target)  # type: ignore[attr-defined]

    def _descriptor(self, path: Path) -> int:
        with self._lock:
            if path not in self._descriptors:
                self._descriptors[path] = os.open(path, os.O_RDONLY)
            return self._descriptors[path]

    def _stream(self, path: Path) -> BinaryIO:
        streams: dict[Path, BinaryIO] = self._own.__dict__.setdefault("streams", {})
        if path not in streams:
            streams[path] = path.open("rb", buffering=0)
            with self._lock:
                self._streams.append(streams[path])
        return streams[path]

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        for stream in self._streams:
            stream.close()
        self._descriptors, self._streams = {}, []
