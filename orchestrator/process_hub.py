"""Stage processes: start them warm or cold, hear from them, end them with their whole group.

                     +------------------ ProcessHub ------------------+
    session.py  -->  | start()   ROUTER socket   template   sentinels |  --> wait() -> [Event]
                     +------|------------|-----------|----------|-----+
                        cold child   messages    forked/exited  pidfd

The socket and one connection file a child lie in a private folder (0700). The hub knows nothing of
jobs; `session.py` gives the messages their meaning.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import protocol, warm
from orchestrator.errors import ProtocolError, StageProcessError
from orchestrator.process import Ended, Event, Spoke, SpokeGarbage, StageProcess
from orchestrator.workplace import Workplace
from stages.connection import Connection

if TYPE_CHECKING:
    import zmq

_SOCKET_PATH_BYTES = 100
"""The kernel's limit for a socket's path is 107 on Linux and 103 on macOS."""
_CONTROL_BYTES = 1 << 20
"""More than any frame takes that holds no file; a peer that sends more is cut off, unread."""
_POLL_SECONDS = 0.05
"""How often exits are looked for where the system has no pidfd."""


class ProcessHub:
    """Start children and wait for what they say or how they end. Use as a context manager.

    A child that cannot be started ends at once, as `unstarted`.
    """

    def __init__(
        self,
        workplace: Workplace,
        heartbeat_interval: float = 1.0,
        inline_max_bytes: int = protocol.INLINE_MAX_BYTES,
    ) -> None:
        import zmq

        self._zmq = zmq
        self._heartbeat_interval = heartbeat_interval
        self._inline_max_bytes = inline_max_bytes
        self._processes: dict[str, StageProcess] = {}
        self._awaiting_fork: dict[str, StageProcess] = {}
        self._template = workplace.template
        self.cold_reason = workplace.cold_reason
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
        if self._template is not None:
            self._poller.register(self._template.fileno(), zmq.POLLIN)

    def _bind(self, router: zmq.Socket[bytes]) -> str:
        path = self._folder / "socket"
        too_long = len(os.fsencode(path)) > _SOCKET_PATH_BYTES
        # ZeroMQ takes names in UTF-8 alone; a name that is none has surrogates here.
        if sys.platform == "win32" or too_long or not str(path).isprintable():
            # no ipc there; the token keeps strangers out
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
        if self._template is not None and not self.cold_reason:
            try:
                self._template.preload(modules)
            except StageProcessError as error:
                self._go_cold(error.message)

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
            orchestrator_pid=os.getpid(),
            inline_max_bytes=self._inline_max_bytes,
            heartbeat_interval=self._heartbeat_interval,
            started=started,
        ).save(connection)
        process = StageProcess(
            identity,
            stage,
            token,
            connection,
            log,
            environment,
            warm=not self.cold_reason,
            started=started,
            cold_reason=self.cold_reason,
        )
        self._processes[identity] = process
        if self._template is not None and not self.cold_reason:
            self._awaiting_fork[str(connection)] = process
            try:
                self._template.fork(connection, needs, log, environment)
            except StageProcessError as error:
                self._go_cold(error.message)
        else:
            self._start_cold(process)
        return process

    def _start_cold(self, process: StageProcess) -> None:
        process.warm = False
        process.cold_reason = self.cold_reason
        command = [sys.executable, "-P", "-m", "stages.host", "--connect", str(process.connection)]
        try:
            with process.log.open("ab") as stream:
                popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env={**warm.child_environment(), **process.environment},
                    start_new_session=True,
                )
        except OSError as error:  # `wait` tells it as this one's end; the others go on
            process.unstarted = f"cannot start a process for {process.stage}: {error}"
            return
        process.popen = popen
        process.pid = popen.pid
        # Python may have the call where the kernel or a sandbox does not: exits are polled for then
        with contextlib.suppress(OSError, AttributeError):
            process.pidfd = os.pidfd_open(popen.pid)
            self._poller.register(process.pidfd, self._zmq.POLLIN)

    def send(self, process: StageProcess, message: protocol.Message) -> None:
        """Send to a child that has said hello; a message to a dead child is dropped."""
        self._router.send_multipart([process.identity.encode(), protocol.encode(message)])

    def wait(self, timeout: float) -> list[Event]:
        """Block until something happens or `timeout` seconds pass.

        A child's last words come before its end: messages are drained before exits are told.
        """
        never_there = self._cancel_doomed() + self._unstarted()
        if never_there:
            timeout = 0.0
        elif any(p.popen is not None and p.pidfd < 0 for p in self._processes.values()):
            timeout = min(timeout, _POLL_SECONDS)
        self._poller.poll(int(max(0.0, timeout) * 1000.0))
        endings = never_there + self._read_template() + self._reap_cold()
        events = self._drain()
        for process in endings:
            self._forget(process)
            events.append(Ended(process))
        return events

    def _cancel_doomed(self) -> list[StageProcess]:
        """Those that were to be killed before they were forked: the template may be in the middle
        of a long import for one of them, which is not waited for. `_on_forked` meets the child."""
        doomed = [p for p in self._processes.values() if p.doomed and not p.pid and not p.unstarted]
        for process in doomed:
            process.exit_code = -signal.SIGKILL
        return doomed

    def _unstarted(self) -> list[StageProcess]:
        return [process for process in self._processes.values() if process.unstarted]

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

    def _read_template(self) -> list[StageProcess]:
        if self._template is None or not self._readable(self._template.fileno()):
            return []
        ended: list[StageProcess] = []
        for event in self._template.receive():
            if isinstance(event, warm.Forked):
                self._on_forked(event)
            elif isinstance(event, warm.Exited):
                for process in self._processes.values():
                    if process.pid == event.pid and process.popen is None:
                        process.exit_code = event.code
                        ended.append(process)
            else:
                ended += self._on_template_gone()
        return ended

    def _readable(self, fd: int) -> bool:
        poller = self._zmq.Poller()
        poller.register(fd, self._zmq.POLLIN)
        return bool(poller.poll(0))

    def _on_forked(self, event: warm.Forked) -> None:
        if event.error:
            self._go_cold(event.error)
            return
        process = self._awaiting_fork.pop(event.connection, None)
        if process is None or process.doomed:  # it was started cold meanwhile, or is not wanted
            with contextlib.suppress(ProcessLookupError):
                os.kill(event.pid, signal.SIGKILL)
            return
        process.pid = event.pid

    def _on_template_gone(self) -> list[StageProcess]:
        """Its children died with it; those not yet forked start cold."""
        if self._template is not None:
            self._poller.unregister(self._template.fileno())
            self._template = None
        ended = [p for p in self._processes.values() if p.warm and p.pid]
        for process in ended:
            process.exit_code = -signal.SIGKILL
        self._go_cold("the warm template died")
        return ended

    def _go_cold(self, reason: str) -> None:
        """From now on start cold; children forked so far live on."""
        self.cold_reason = reason
        waiting, self._awaiting_fork = list(self._awaiting_fork.values()), {}
        for process in waiting:
            if not process.doomed:
                self._start_cold(process)

    def _reap_cold(self) -> list[StageProcess]:
        ended = []
        for process in self._processes.values():
            if process.popen is not None and (code := process.popen.poll()) is not None:
                process.exit_code = code
                ended.append(process)
        return ended

    def _forget(self, process: StageProcess) -> None:
        self._processes.pop(process.identity, None)
        if hasattr(os, "killpg") and process.pid:
            # Helpers that the stage started and left behind would keep their memory, on the card
            # too. While one lives the group's number is taken, so it can be nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.connection.unlink(missing_ok=True)
        if process.pidfd >= 0:
            self._poller.unregister(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1

    def close(self) -> None:
        """Kill every child's group, reap, remove the socket, and let the template go."""
        for process in self._processes.values():
            process.kill()
        deadline = time.monotonic() + 5.0
        while any(p.pid for p in self._processes.values()) and time.monotonic() < deadline:
            self.wait(0.2)
        self._stack.close()
        if self._template is not None:
            self._template.begin_close()  # its 60 ms pass behind the last writes
