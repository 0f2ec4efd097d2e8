"""The warm template: imports the heavy libraries once, then forks stage processes.

Started by the parent as `python -m stages.template --fd N`, where N is one end of a socket pair
that carries JSON lines:

    parent -> template   {"import": [module, ...]}
                         {"fork": connection file, "needs": [...], "log": path, "env": {...}}
    template -> parent   {"imported": module, "seconds": s} or with "error"
                         {"forked": connection file, "pid": n} or with "error"
                         {"exited": pid, "code": n}

It stays single-threaded and never touches CUDA. Modules are imported one at a time with requests
answered in between, so a stage forks as soon as its own modules are there, while those of the next
are imported behind its computation.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from stages.connection import Connection
from stages.lifeline import die_with_parent


class Template:
    """Serve import and fork requests until the parent closes its end; children die with us."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pending: list[str] = []
        self._imported: set[str] = set()
        self._buffer = b""
        self._wake_read, self._wake_write = socket.socketpair()
        self._children: set[int] = set()
        self._importing = False

    def run(self) -> None:
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno())
        signal.signal(signal.SIGCHLD, self._on_child_end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(timeout=0 if self._pending else None):
                    if key.fileobj is self._wake_read:
                        self._wake_read.recv(4096)
                    elif not self._receive():
                        self._kill_children()
                        return
                self._reap()
                if self._pending:
                    self._import(self._pending.pop(0))

    def _send(self, message: dict[str, Any]) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

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

    def _on_child_end(self, *_: object) -> None:
        """A card must not stay leased to a dead child because an import takes 15 s. Outside of
        imports the loop reaps: a handler there could write into the middle of a message."""
        if self._importing:
            self._reap()

    def _import(self, module: str) -> None:
        if module in self._imported:
            return
        self._imported.add(module)
        began = time.perf_counter()
        reply: dict[str, Any] = {"imported": module}
        self._importing = True
        try:
            importlib.import_module(module)
        except Exception as error:  # the stage will meet the same error and report it
            reply["error"] = f"{type(error).__name__}: {error}"
        finally:
            self._importing = False
        self._reap()
        self._send({**reply, "seconds": time.perf_counter() - began})

    def _fork(self, request: dict[str, Any]) -> None:
        for module in request["needs"]:
            self._import(module)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            reason = "an import initialised CUDA, so a forked child could not use it"
            self._send({"forked": request["fork"], "error": reason})
            return
        gc.freeze()  # keeps the collector from touching, and so copying, the shared pages
        parent = os.getpid()
        with warnings.catch_warnings():
            # BLAS starts threads at import; it re-creates them in a forked child by itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                pid = os.fork()
            except OSError as error:  # no memory, too many processes: those that run live on
                self._send({"forked": request["fork"], "error": f"cannot fork ({error})"})
                return
        if pid == 0:
            self._become_stage(request, parent)
        self._children.add(pid)
        self._send({"forked": request["fork"], "pid": pid})

    def _become_stage(self, request: dict[str, Any], parent: int) -> None:
        """The child's side of the fork: never returns into the template's loop."""
        code = 1
        try:
            os.setsid()
            die_with_parent(parent)
            gc.enable()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._channel.close()
            self._wake_read.close()
            self._wake_write.close()
            _redirect(Path(request["log"]))
            from stages.host import serve  # among the first that the parent had us import

            os.environ.update(request["env"])
            serve(Connection.load(Path(request["fork"])), warm=True)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._children.discard(pid)
            self._send({"exited": pid, "code": os.waitstatus_to_exitcode(status)})

    def _kill_children(self) -> None:
        for pid in self._children:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _redirect(log: Path) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    os.close(null)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.template", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="our end of the socket pair")
    parser.add_argument("--parent", type=int, required=True, help="pid that we must not outlive")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    gc.disable()  # imports make objects that stay: collecting them again and again takes a tenth
    Template(socket.socket(fileno=arguments.fd)).run()
    # The parent waits for this end; tearing an interpreter with torch down takes 0.25 s.
    os._exit(0)


if __name__ == "__main__":
    main()
