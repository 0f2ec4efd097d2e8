"""The parent's end of all connections: who may speak, what each one says, and to whom we answer.

A caller is nobody until its first bytes are the token of a child that is expected; of strangers
nothing is kept, they get no answer, and few of them can wait at a time. Each child has one
connection, so that what arrives there is its own, and its fault where it is wrong.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from stages.process.wire import MESSAGE_BYTES, PROOF_BYTES, Wire, WireError

_SOCKET_PATH_BYTES = 100
"""The kernel's limit for a socket's path is 107 on Linux and 103 on macOS."""
_MAX_CALLERS = 32
"""A child sends its token with its call, so even among as many strangers it is known in time."""
_LAST_WORDS_BYTES = 1 << 20
"""More than a kernel keeps of what a process that is gone has sent."""


@dataclass(frozen=True)
class Heard:
    """What came in from one child: an encoded message and its contents, or what was wrong."""

    name: str
    message: bytes = b""
    contents: bytes = b""
    fault: str = ""


class Switchboard:
    """Listen in `folder`, which is private, or on the loopback interface where that cannot be.

    selector      gets every socket that `receive` has to look at when it is ready
    contents_max  bytes of files that may ride in one message
    """

    def __init__(self, folder: Path, selector: selectors.BaseSelector, contents_max: int) -> None:
        self.selector = selector
        self._contents_max = contents_max
        self._tokens: dict[str, tuple[bytes, bytes]] = {}
        self._callers: list[socket.socket] = []
        self._wires: dict[str, Wire] = {}
        self._unsent: dict[str, bytes] = {}
        self._listener, self.endpoint = _listen(folder)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ)

    def expect(self, name: str) -> str:
        """The secret token by which a child that is called `name` will be known, once."""
        token = secrets.token_hex(PROOF_BYTES)
        self._tokens[name] = (token[:PROOF_BYTES].encode(), token[PROOF_BYTES:].encode())
        return token

    def send(self, name: str, data: bytes) -> None:
        """Send without waiting; dropped where the child is not, or no longer, connected."""
        if name in self._wires:
            self._unsent[name] = self._unsent.get(name, b"") + data
            self._flush(name)

    def receive(self, ready: Collection[int]) -> list[Heard]:
        """At most one message of each child whose socket is ready: the others wait in the kernel,
        which stops a child that sends faster than it is heard."""
        heard: list[Heard] = []
        for name, wire in list(self._wires.items()):
            if wire.socket.fileno() in ready:
                self._flush(name)
                heard += self._read(name)
        for caller in list(self._callers):
            if caller.fileno() in ready:
                self._identify(caller)
        if self._listener.fileno() in ready:
            self._accept()
        return heard

    def last_words(self, name: str) -> list[Heard]:
        """All that a child which is gone has said and nobody heard; hangs up."""
        heard: list[Heard] = []
        room = _LAST_WORDS_BYTES
        while room > 0 and (more := self._read(name)):
            heard += more
            room -= sum(len(one.message) + len(one.contents) + 1 for one in more)
        self.hang_up(name)
        return heard

    def hang_up(self, name: str) -> None:
        """Hear no more of a child."""
        self._tokens.pop(name, None)
        self._unsent.pop(name, None)
        if wire := self._wires.pop(name, None):
            self._close(wire.socket)

    def close(self) -> None:
        for name in list(self._wires):
            self.hang_up(name)
        for connection in (*self._callers, self._listener):
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        connection.close()

    def _accept(self) -> None:
        for _ in range(_MAX_CALLERS):
            try:
                caller, _address = self._listener.accept()
            except OSError:  # nobody else; or one that is gone already, or no descriptor is free
                return
            if len(self._callers) == _MAX_CALLERS:
                self._close(self._callers.pop(0))
            caller.setblocking(False)
            self._callers.append(caller)
            self.selector.register(caller, selectors.EVENT_READ)
            self._identify(caller)

    def _identify(self, caller: socket.socket) -> None:
        """Look at a caller's first bytes, if they are there: a child of ours, or nobody."""
        try:
            shown = caller.recv(PROOF_BYTES)
        except BlockingIOError:
            return
        except OSError:
            shown = b""
        self._callers.remove(caller)
        for name, (expected, answer) in self._tokens.items():
            if secrets.compare_digest(shown, expected):
                del self._tokens[name]
                self._wires[name] = Wire(caller, MESSAGE_BYTES, self._contents_max)
                self.send(name, answer)
                return
        self._close(caller)

    def _read(self, name: str) -> list[Heard]:
        wire = self._wires.get(name)
        if wire is None:
            return []
        try:
            received = wire.receive()
        except WireError as error:
            self.hang_up(name)
            return [Heard(name, fault=str(error))]
        except (EOFError, OSError):  # its process ends, or will be missed by its heartbeat
            self.hang_up(name)
            return []
        return [Heard(name, *received)] if received else []

    def _flush(self, name: str) -> None:
        """Send on what the kernel takes now; ask to be woken where something is left."""
        connection, unsent = self._wires[name].socket, self._unsent.pop(name, b"")
        if unsent:
            try:
                unsent = unsent[connection.send(unsent) :]
            except BlockingIOError:
                pass  # full
            except OSError:
                unsent = b""  # closed: its end, or its silence, will be noticed
        events = selectors.EVENT_READ
        if unsent:
            self._unsent[name] = unsent
            events |= selectors.EVENT_WRITE
        self.selector.modify(connection, events)


def _listen(folder: Path) -> tuple[socket.socket, str]:
    path = folder / "socket"
    if sys.platform == "win32" or len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        listener = socket.socket()
        if sys.platform == "win32":  # there another program could bind the same port as well
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return listener, f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener, f"unix:{path}"
