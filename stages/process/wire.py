"""How messages travel between the parent and a stage process: one stream socket a child.

    the child, once    the first half of its token, in one piece
    the parent, once   the second half: nobody else who came to listen there can give orders
    then, both ways    12 bytes: the length of the message, and that of the contents behind it
                       the message, one msgpack map
                       the contents of small files, one after another

A socket and two lengths, because only so the reader decides what it takes in. ZeroMQ keeps a
message of many frames until its last one is there, however many they are (2,500 frames of 2 MiB
took 5 GiB), and every connection costs it 21 KiB before anybody has been asked who he is.
"""

from __future__ import annotations

import secrets
import socket
import struct
import threading
from collections.abc import Iterable

HEADER = struct.Struct(">IQ")
PROOF_BYTES = 32
"""Half a token: what each side shows to the other."""
MESSAGE_BYTES = 128 << 10
"""More than any message of a child takes. Empty maps, the worst, grow to the 72-fold in memory."""
PARENTS_MESSAGE_BYTES = 64 << 20
"""The same of the parent, whose messages hold what a user has put into params."""
_PIECE = 256 << 10


class WireError(Exception):
    """The peer is not who it should be, or announces more than a message may take."""


def pack(message: bytes, contents: Iterable[bytes] = ()) -> bytes:
    """The bytes on the wire of an encoded message and of the files that ride with it."""
    body = b"".join(contents)
    return HEADER.pack(len(message), len(body)) + message + body


def connect(endpoint: str, token: str) -> Wire:
    """A child's way to its parent: "unix:PATH" or "tcp:HOST:PORT". Raises `WireError`, OSError."""
    kind, _, place = endpoint.partition(":")
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(place)
    else:
        host, _, port = place.rpartition(":")
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(token[:PROOF_BYTES].encode())
    proof = connection.recv(PROOF_BYTES, socket.MSG_WAITALL)
    if not secrets.compare_digest(proof, token[PROOF_BYTES:].encode()):
        connection.close()
        raise WireError("this is not the parent")
    return Wire(connection, PARENTS_MESSAGE_BYTES, 0)


class Wire:
    """One end of a connection. Any thread may send; one thread receives.

    No more is asked of the kernel than the message at hand takes, and memory is taken for what has
    arrived, not for what was announced: a peer fills the room of one message at most.

    sending: held while a message is on its way; who holds it has the socket alone
    """

    def __init__(self, connection: socket.socket, message_max: int, contents_max: int) -> None:
        self.socket = connection
        self._message_max = message_max
        self._contents_max = contents_max
        self._held = bytearray()
        self._lengths: tuple[int, int] | None = None
        self.sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """Send what `pack` made, and return when the kernel has all of it (blocking sockets)."""
        with self.sending:
            self.socket.sendall(data)

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next message and its contents, or None where a part of it is still on its way.

        Raises `WireError`, EOFError when the peer has closed its end, or OSError.
        """
        while True:
            missing = self._end() - len(self._held)
            if missing == 0 and self._lengths is None:
                self._lengths = self._announced()
            elif missing == 0:
                return self._take(self._lengths[0] if self._lengths else 0)
            else:
                try:
                    piece = self.socket.recv(min(missing, _PIECE))
                except BlockingIOError:
                    return None
                if not piece:
                    raise EOFError("the connection is closed")
                self._held += piece

    def _end(self) -> int:
        return HEADER.size + (sum(self._lengths) if self._lengths else 0)

    def _announced(self) -> tuple[int, int]:
        message, contents = HEADER.unpack(self._held)
        for what, size, limit in (
            ("message", message, self._message_max),
            ("files", contents, self._contents_max),
        ):
            if size > limit:
                raise WireError(f"{what} of {size} bytes, where {limit} are the most")
        return message, contents

    def _take(self, message_size: int) -> tuple[bytes, bytes]:
        start = HEADER.size
        message = bytes(self._held[start : start + message_size])
        contents = bytes(self._held[start + message_size :])
        self._held, self._lengths = bytearray(), None
        return message, contents
