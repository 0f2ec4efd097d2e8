"""Ctrl-C and SIGTERM as something a loop can wait for, instead of an exception in mid-write."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from types import FrameType

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Counts stop requests; while installed, a socket becomes readable at each and at each `poke`.

    count   0 go on, 1 stop cleanly, 2 or more stop at once
    last    the signal that came last
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = signal.SIGINT

    @contextlib.contextmanager
    def installed(self) -> Iterator[StopSignals]:
        """Handle the signals while the context lasts (main thread only)."""
        self._read, self._write = socket.socketpair()
        with self._read, self._write:
            self._read.setblocking(False)
            self._write.setblocking(False)
            old_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            old = {number: signal.signal(number, self._on_signal) for number in _WATCHED}
            try:
                yield self
            finally:
                for number, handler in old.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(old_fd)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.last = signal.Signals(number)

    def fileno(self) -> int:
        return self._read.fileno()

    def poke(self) -> None:
        """Wake the waiting loop from another thread."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it is over
            self._write.send(b"\0")

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(4096):
                pass
