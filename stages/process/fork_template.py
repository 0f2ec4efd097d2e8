"""The warm template: imports the heavy libraries once, then forks stage processes.

Forked by `stages.process.guard` before that imports anything, with two descriptors, JSON lines on
both:

    parent -> template   {"import": [module, ...]}
                         {"fork": connection file, "needs": [module, ...],
                          "log": existing file, "env": {...}}
    template -> guard    {"imported": module, "seconds": s} or with "error"
                         {"born": connection file, "pid": n} or with "error"

It stays single-threaded and never touches CUDA. Modules are imported one at a time with requests
answered in between, so a stage forks as soon as its own modules are there, while those of the next
are imported behind its computation. A stage process is the guard's child, not the template's: it
lives on, and its end is heard of, whatever becomes of the template.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

from stages.process.connection import Connection
from stages.process.parent_watch import adopt_orphans, die_with_parent

_GUARD_POLL_SECONDS = 0.0002


class Template:
    """Serve import and fork requests until the parent closes its end.

    channel  what the parent asks
    words    a pipe to the guard, for what is told
    """

    def __init__(self, channel: socket.socket, words: int, guard: int) -> None:
        self._channel = channel
        self._words = words
        self._guard = guard
        self._pending: list[str] = []
        self._imported: set[str] = set()
        self._buffer = b""

    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            ready, _, _ = select.select([self._channel], [], [], 0 if self._pending else None)
            if ready and not self._receive():
                return
            if self._pending:
                self._import(self._pending.pop(0))

    def _tell(self, word: dict[str, Any]) -> None:
        os.write(self._words, json.dumps(word).encode() + b"\n")

    def _receive(self) -> bool:
        data = self._channel.recv(65536)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "import" in request:
                self._pending += request["import"]
            else:
                self._fork(request)
        return bool(data)

    def _import(self, module: str) -> None:
        if module in self._imported:
            return
        self._imported.add(module)
        began = time.perf_counter()
        word: dict[str, Any] = {"imported": module}
        try:
            importlib.import_module(module)
        except Exception as error:  # the stage will meet the same error and report it
            word["error"] = f"{type(error).__name__}: {error}"[:1000]
        self._tell({**word, "seconds": time.perf_counter() - began})

    def _fork(self, request: dict[str, Any]) -> None:
        for module in request["needs"]:
            self._import(module)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            reason = "an import initialised CUDA, so a forked child could not use it"
            self._tell({"born": request["fork"], "error": reason})
            return
        gc.freeze()  # keeps the collector from touching, and so copying, the shared pages
        with warnings.catch_warnings():
            # BLAS starts threads at import; it re-creates them in a forked child by itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                between = os.fork()
            except OSError as error:  # no memory, too many processes: those that run live on
                self._tell({"born": request["fork"], "error": f"cannot fork ({error})"})
                return
            if between == 0:
                self._fork_again(request)
        os.waitpid(between, 0)

    def _fork_again(self, request: dict[str, Any]) -> NoReturn:
        """In the process between: it ends when the stage process is announced, and by its end the
        stage process becomes the guard's child."""
        between = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell({"born": request["fork"], "error": f"cannot fork ({error})"})
            os._exit(1)
        if pid == 0:
            self._become_stage(request, between)
        self._tell({"born": request["fork"], "pid": pid})
        os._exit(0)

    def _become_stage(self, request: dict[str, Any], between: int) -> NoReturn:
        """The child's side of the fork: never returns into the template's loop."""
        code = 1
        try:
            os.setsid()
            while os.getppid() == between:
                time.sleep(_GUARD_POLL_SECONDS)
            die_with_parent(self._guard)
            adopt_orphans()  # what daemonises itself lives as long as its stage, and no longer
            gc.enable()
            self._channel.close()
            os.close(self._words)
            _redirect(Path(request["log"]))
            from stages.process.child import serve  # among the first that the parent had us import

            os.environ.update(request["env"])
            serve(Connection.load(Path(request["fork"])), warm=True)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)


def _redirect(log: Path) -> None:
    """Say all into `log`, an existing file: where it is gone, the parent has given this process up
    and removed the run meanwhile, and nothing may appear there again."""
    target = os.open(log, os.O_WRONLY | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    os.close(null)


def serve(channel: int, words: int, guard: int) -> NoReturn:
    """Be the template until the parent closes its end of the channel.

    channel, words  descriptors, as in `Template`; guard: the process that this one dies with
    """
    gc.disable()  # imports make objects that stay: collecting them again and again takes a tenth
    Template(socket.socket(fileno=channel), words, guard).run()
    # Tearing an interpreter with torch down takes 0.25 s.
    os._exit(0)
