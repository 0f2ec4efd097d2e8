"""Stage processes: have them started, hear from them, end them with their whole group.

                     +-------------- ProcessHub --------------+
    session.py  -->  | start()     switchboard     starter    |  --> wait() -> [Event]
                     +------------------|------------|--------+
                                    messages     births, ends

The socket lies in a private folder (0700), with one connection file a child until that has called.
The hub knows nothing of jobs; `session.py` gives the messages their meaning.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from orchestrator.processes.handle import Ended, Event, Spoke, SpokeGarbage, StageProcess
from orchestrator.processes.starter import Starter
from orchestrator.processes.switchboard import Heard, Switchboard
from orchestrator.processes.workspace import Workspace
from stages.process import protocol
from stages.process.connection import Connection
from stages.process.protocol import ProtocolError
from stages.process.wire import pack

NO_CARD: Final[Mapping[str, str]] = {"CUDA_VISIBLE_DEVICES": ""}
"""Environment of a process that has not been given a card (yet: it is told with the load)."""


class ProcessHub:
    """Start children and wait for what they say or how they end. Use as a context manager.

    A child that cannot be started ends at once, as `unstarted`.
    """

    def __init__(
        self,
        workspace: Workspace,
        heartbeat_interval: float = 1.0,
        inline_max_bytes: int = protocol.INLINE_MAX_BYTES,
        silence: float = 60.0,
    ) -> None:
        self._heartbeat_interval = heartbeat_interval
        self._inline_max_bytes = inline_max_bytes
        self._processes: dict[str, StageProcess] = {}
        self._folder = workspace.folder
        self._stack = contextlib.ExitStack()
        self._selector = selectors.DefaultSelector()
        self._stack.callback(self._selector.close)
        self._switchboard = Switchboard(self._folder, self._selector, inline_max_bytes)
        self._stack.callback(self._switchboard.close)
        self._starter = Starter(workspace, silence, self.watch, self._unwatch)

    def __enter__(self) -> ProcessHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, fd: int) -> None:
        """Also wake `wait` when this file descriptor becomes readable (signals)."""
        self._selector.register(fd, selectors.EVENT_READ)

    def _unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

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
        token = self._switchboard.expect(identity)
        connection = self._folder / f"{identity}.json"
        started = time.monotonic()
        Connection(
            endpoint=self._switchboard.endpoint,
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
        self._switchboard.send(process.identity, pack(protocol.encode(message)))

    def wait(self, timeout: float) -> list[Event]:
        """Block until something happens or `timeout` seconds pass.

        A child's last words come before its end: they are heard before exits are told.
        """
        timeout = min(timeout, self._starter.patience)
        ready = {key.fd for key, _ in self._selector.select(max(0.0, timeout))}
        endings = self._starter.ended()
        events = [self._understood(heard) for heard in self._switchboard.receive(ready)]
        for process in endings:
            last_words = self._switchboard.last_words(process.identity)
            events += [*map(self._understood, last_words), Ended(process)]
            self._forget(process)
        return events

    def _understood(self, heard: Heard) -> Event:
        process = self._processes[heard.name]
        process.connection.unlink(missing_ok=True)  # it has been read, and its token has served
        if heard.fault:
            return SpokeGarbage(process, heard.fault)
        try:
            return Spoke(process, protocol.decode(heard.message), heard.contents)
        except ProtocolError as error:
            return SpokeGarbage(process, str(error))

    def _forget(self, process: StageProcess) -> None:
        self._processes.pop(process.identity, None)
        process.connection.unlink(missing_ok=True)

    def close(self) -> None:
        """End every child with its group, and remove the socket."""
        self._starter.close()
        self._stack.close()
