"""Stage processes: have them started, hear from them, end them with their whole group.

                     +------------- ProcessHub --------------+
    session.py  -->  | start()   ROUTER socket     Starter   |  --> wait() -> [Event]
                     +-----------------|--------------|------+
                                   messages      births, ends

The socket and one connection file a child lie in a private folder (0700). The hub knows nothing of
jobs; `session.py` gives the messages their meaning.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import protocol
from orchestrator.errors import ProtocolError
from orchestrator.process import Ended, Event, Spoke, SpokeGarbage, StageProcess
from orchestrator.starter import Starter
from orchestrator.workplace import Workplace
from stages.connection import Connection

if TYPE_CHECKING:
    import zmq

_SOCKET_PATH_BYTES = 100
"""The kernel's limit for a socket's path is 107 on Linux and 103 on macOS."""
_CONTROL_BYTES = 1 << 20
"""More than any frame takes that holds no file; a peer that sends more is cut off, unread."""


class ProcessHub:
    """Start children and wait for what they say or how they end. Use as a context manager.

    A child that cannot be started ends at once, as `unstarted`.
    """

    def __init__(
        self,
        workplace: Workplace,
        heartbeat_interval: float = 1.0,
        inline_max_bytes: int = protocol.INLINE_MAX_BYTES,
        silence: float = 60.0,
    ) -> None:
        import zmq

        self._zmq = zmq
        self._heartbeat_interval = heartbeat_interval
        self._inline_max_bytes = inline_max_bytes
        self._processes: dict[str, StageProcess] = {}
        self._stack = contextlib.ExitStack()
        self._folder = workplace.folder
        self._context = zmq.Context()
        self._stack.callback(self._context.term)
        self._router = self._context.socket(zmq.ROUTER)
        self._stack.callback(self._router.close, linger=0)
        self._router.setsockopt(zmq.MAXMSGSIZE, inline_max_bytes + _CONTROL_BYTES)
        self._endpoint = self._bind(self._router)
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._starter = Starter(workplace, silence, self.watch, self._poller.unregister)

    def _bind(self, router: zmq.Socket[bytes]) -> str:
        path = self._folder / "socket"
        too_long = len(os.fsencode(path)) > _SOCKET_PATH_BYTES
        if sys.platform == "win32" or too_long:  # no ipc there; the token keeps strangers out
            return f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
        endpoint = f"ipc://{path}"
        router.bind(endpoint)
        return endpoint

    def __enter__(self) -> ProcessHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, fd: int) -> None:
        """Also wake `wait` when this file descriptor becomes readable (signals)."""
        self._poller.register(fd, self._zmq.POLLIN)

    def preload(self, modules: Sequence[str]) -> None:
        """Have the template import what the next stage needs, behind the present one."""
        self._starter.preload(modules)

    def start(
        self, stage: str, needs: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> StageProcess:
        """Ask for a child that will be `stage`; it says hello when it is there.

        needs: modules that the template imports before it forks this child.
        Raises OSError when its connection file cannot be written.
        """
        identity = f"{stage}-{secrets.token_hex(4)}"
        token = secrets.token_hex(16)
        connection = self._folder / f"{identity}.json"
        started = time.monotonic()
        Connection(
            endpoint=self._endpoint,
            identity=identity,
            token=token,
            stage=stage,
            orchestrator_pid=self._starter.parent_pid,
            inline_max_bytes=self._inline_max_bytes,
            heartbeat_interval=self._heartbeat_interval,
            started=started,
        ).save(connection)
        process = StageProcess(identity, stage, token, connection, log, environment, started)
        self._processes[identity] = process
        self._starter.start(process, needs)
        return process

    def send(self, process: StageProcess, message: protocol.Message) -> None:
        """Send to a child that has said hello; a message to a dead child is dropped."""
        self._router.send_multipart([process.identity.encode(), protocol.encode(message)])

    def wait(self, timeout: float) -> list[Event]:
        """Block until something happens or `timeout` seconds pass.

        A child's last words come before its end: messages are drained before exits are told.
        """
        timeout = min(timeout, self._starter.patience)
        self._poller.poll(int(max(0.0, timeout) * 1000.0))
        endings = self._starter.ended()
        events = self._drain()
        for process in endings:
            self._forget(process)
            events.append(Ended(process))
        return events

    def _drain(self) -> list[Event]:
        events: list[Event] = []
        while True:
            try:
                frames = self._router.recv_multipart(self._zmq.NOBLOCK, copy=False)
            except self._zmq.Again:
                return events
            identity = bytes(frames[0].buffer).decode(errors="replace").partition("/")[0]
            process = self._processes.get(identity)
            token = bytes(frames[1].buffer) if len(frames) > 1 else b""
            if process is None or not secrets.compare_digest(token, process.token.encode()):
                continue  # a stranger, or the echo of a child that is gone
            try:
                message = protocol.decode(bytes(frames[2].buffer) if len(frames) > 2 else b"")
            except ProtocolError as error:
                events.append(SpokeGarbage(process, error.message))
                continue
            events.append(Spoke(process, message, [frame.buffer for frame in frames[3:]]))

    def _forget(self, process: StageProcess) -> None:
        self._processes.pop(process.identity, None)
        process.connection.unlink(missing_ok=True)

    def close(self) -> None:
        """End every child with its group, and remove the socket."""
        self._starter.close()
        self._stack.close()
