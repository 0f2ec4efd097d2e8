"""SIGINT (Ctrl-C), SIGTERM and SIGHUP, from the program's first line to its last.

What the first one does depends on what the program is doing:

    exit    nothing was begun: it ends at once
    raise   KeyboardInterrupt, so that every `with` and `finally` cleans up
    count   nothing by itself: a loop is woken, looks at `count` and stops when it can

The second one means now: whatever hangs, the program ends within `_PATIENCE` seconds. The exit code
is 128 + the number of the first: 130, 143 or 129.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import socket
    from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_WATCHED = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_PATIENCE = 0.6


class StopSignals:
    """The program's one handler is `STOP`.

    count  0 go on, 1 stop cleanly, 2 or more stop at once
    first  the signal that came first
    """

    def __init__(self) -> None:
        self.count = 0
        self.first = signal.SIGINT
        self._last_acts: list[Callable[[], None]] = []
        self._on_first: Literal["exit", "raise", "count"] = "count"
        self._owns_program = False
        self._raised = False
        self._write: socket.socket | None = None

    @property
    def exit_code(self) -> int:
        return 128 + self.first

    def take_over(self) -> None:
        """Handle the signals until the program's end (main thread only); the first one exits."""
        self._owns_program, self._on_first = True, "exit"
        for number in _WATCHED:
            # nohup had SIGHUP ignored: that is its point
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        if hasattr(signal, "pthread_sigmask"):
            # The launcher held them back until there was somebody to handle them.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)

    def interrupt(self) -> None:
        """From now on the first one raises KeyboardInterrupt: there will be something to clean."""
        self._on_first = "raise"

    def let_go(self) -> None:
        """The program is over but for the interpreter's end, in which a signal changes nothing."""
        for number in _WATCHED:
            signal.signal(number, signal.SIG_IGN)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Between the two halves of something that must not be torn; raises behind it."""
        before, self._on_first = self._on_first, "count"
        try:
            yield
        finally:
            self._on_first = before
        if before == "raise" and self.count and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def last_act(self, act: Callable[[], None]) -> Iterator[None]:
        """While the context lasts an end by force does this first, in a thread: nobody else cleans
        up then. What was added last is done first."""
        self._last_acts.append(act)
        try:
            yield
        finally:
            self._last_acts.remove(act)

    @contextlib.contextmanager
    def counted(self) -> Iterator[StopSignals]:
        """While the context lasts `fileno` becomes readable at each signal and at each `poke`.

        In a program that has not called `take_over`, the signals are this context's as long as it
        lasts, and counted anew (main thread only).
        """
        import socket

        self._read, self._write = socket.socketpair()
        old = {}
        if not self._owns_program:
            self.count = 0
            old = {number: signal.signal(number, self._on_signal) for number in _WATCHED}
        before, self._on_first = self._on_first, "count"
        with self._read, self._write:
            self._read.setblocking(False)
            self._write.setblocking(False)
            old_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            try:
                yield self
            finally:
                signal.set_wakeup_fd(old_fd)
                self._on_first = before
                for number, handler in old.items():
                    signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.first = signal.Signals(number)
        if self._on_first == "exit":
            os._exit(self.exit_code)
        if self.count == 2 and self._owns_program:
            # Not threading's: the signal may have come while its locks were held.
            _thread.start_new_thread(self._end_by_force, ())
        if self.count == 1 and self._on_first == "raise":
            self._raised = True
            raise KeyboardInterrupt

    def _end_by_force(self) -> None:
        time.sleep(_PATIENCE)
        for act in reversed(self._last_acts):
            with contextlib.suppress(Exception):
                act()
        os._exit(self.exit_code)

    def fileno(self) -> int:
        return self._read.fileno()

    def poke(self) -> None:
        """Wake the waiting loop from another thread."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it is over
            if self._write is not None:
                self._write.send(b"\0")

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(4096):
                pass


def interrupt_main_thread() -> None:
    """As Ctrl-C, from another thread: what the main thread waits in is interrupted too, where the
    system has a signal for one thread."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


STOP = StopSignals()
