"""The caller's end of a worker process (`orchestrator.api.worker`).

A worker is a process of its own for three reasons: what the command line has tested of signals,
locks and guards holds for it; several may work at once, whatever thread they were asked from; and
the caller's process stays as small as it was, without torch, numpy or a child of a child.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from orchestrator.api.messages import error_from
from orchestrator.api.request import Request
from orchestrator.errors import KissError, RunFailedError
from orchestrator.processes.environment import REPO_ROOT
from orchestrator.running.run_events import RunEvent
from orchestrator.system.exit_codes import describe_exit

_LAST_WORDS = 2000


@dataclass(frozen=True)
class Decided:
    """What was decided before the work began.

    nodes     in the order of the graph; jobs: how many pictures
    expected  node -> rung -> (device, seconds) for one picture, where that was ever measured
    """

    profile: str
    reason: str
    nodes: Sequence[str]
    jobs: int
    expected: Mapping[str, Mapping[int, tuple[str, float]]]


@dataclass
class Heard:
    """What a worker has told so far. path: where it works; error: what it ended with."""

    decided: Decided | None = None
    path: Path | None = None
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None


class Work:
    """One worker. Somebody has to `listen`, in whatever thread: that is where on_event is called.

    on_decided, on_event  may raise: the work is cancelled then, and that is what it ends with
    """

    def __init__(
        self,
        request: Request,
        on_event: Callable[[RunEvent], None] | None = None,
        on_decided: Callable[[Decided], None] | None = None,
    ) -> None:
        self.heard = Heard()
        self._on_event, self._on_decided = on_event, on_decided
        self._over = threading.Event()
        self._opened = threading.Event()
        self._writing = threading.Lock()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (`listen` closes it)
        path = os.pathsep.join(filter(None, [str(REPO_ROOT), os.environ.get("PYTHONPATH", "")]))
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator.api.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, "PYTHONPATH": path},
                # Ctrl-C in a terminal is for the caller, who decides what becomes of the work.
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise KissError(f"cannot start a process: {error}", "close other programs") from error
        self._write(request.line())

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def wait_opened(self) -> None:
        """Return when it is known where it works, or that it never will."""
        self._opened.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is over, waiting for that at most so many seconds."""
        return self._over.wait(timeout)

    def stop(self) -> None:
        """As Ctrl-C: the stage ends, its card is free, and all that is finished stays. The second
        one means now, whatever hangs."""
        if not self.over:
            self._write(b"stop\n")

    def listen(self) -> None:
        """Hear the worker until it is gone. Does not raise: Ctrl-C, too, stops the work first."""
        assert self._popen.stdout is not None
        over = False
        try:
            while not over:
                try:  # around the loop: Ctrl-C may come between any two steps of it
                    while not over:
                        over = self._hear_next(self._popen.stdout)
                except BaseException as error:  # noqa: BLE001 (the caller's own, told at the end)
                    self._break_off(error)
        finally:
            self._popen.stdout.close()
            with contextlib.suppress(OSError):
                self._close_stdin()
            self._stderr.close()
            self._on_event = self._on_decided = None  # what they hold may be large
            self._opened.set()
            self._over.set()

    def _hear_next(self, stream: IO[bytes]) -> bool:
        """Hear one message; whether it was the end."""
        line = stream.readline()
        if line:
            self._hear(json.loads(line))
        else:
            self._end()
        return not line

    def _break_off(self, error: BaseException) -> None:
        """Stop the work for what happened on this side; that is what it ends with."""
        self.heard.error = self.heard.error or error
        self.stop()

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message.pop("say")
        if kind == "event" and self._on_event is not None:
            self._on_event(RunEvent(**message))
        elif kind == "prepared":
            message["expected"] = {
                node: {int(rung): (device, seconds) for rung, (device, seconds) in rungs.items()}
                for node, rungs in message["expected"].items()
            }
            self.heard.decided = Decided(**message)
            if self._on_decided is not None:
                self._on_decided(self.heard.decided)
        elif kind == "opened":
            if self.heard.path is None:
                self.heard.path = Path(message["path"])
                self._opened.set()
        elif kind == "outcomes":
            self.heard.outcomes = message["rows"]
        elif kind == "failed":
            self.heard.error = self.heard.error or error_from(message)

    def _end(self) -> None:
        code = self._popen.wait()
        if code and self.heard.error is None:
            self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, self._stderr.tell() - _LAST_WORDS))
            words = self._stderr.read().decode(errors="replace").strip()
            told = f": {words}" if words else ""
            hint = "what it had finished is kept: `resume` goes on with it"
            self.heard.error = RunFailedError(f"the worker {describe_exit(code)}{told}", hint)

    def _write(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        with self._writing, contextlib.suppress(OSError, ValueError):  # it is gone
            self._popen.stdin.write(line)
            self._popen.stdin.flush()

    def _close_stdin(self) -> None:
        assert self._popen.stdin is not None
        with self._writing:
            self._popen.stdin.close()
