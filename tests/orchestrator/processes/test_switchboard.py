"""Who may speak to the parent, how much of it is kept, and what a stranger gets: nothing."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.patience import PATIENCE
from orchestrator.processes.switchboard import Heard, Switchboard
from stages.process import wire
from stages.process.wire import HEADER, MESSAGE_BYTES, PROOF_BYTES, Wire, WireError, connect, pack

FILES = 1000
"""Bytes of files that may ride in a message here."""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Switchboard]:
    with selectors.DefaultSelector() as selector:
        switchboard = Switchboard(folder, selector, FILES)
        try:
            yield switchboard
        finally:
            switchboard.close()
        assert not selector.get_map(), "all that was watched is let go"


@pytest.fixture(params=["unix", "tcp"])
def switchboard(request) -> Iterator[Switchboard]:
    if request.param == "unix" and sys.platform == "win32":
        pytest.skip("no such sockets there")
    # Not pytest's own folder: its path may be too long already.
    with tempfile.TemporaryDirectory() as folder:
        deep = Path(folder) / ("x" * 100 if request.param == "tcp" else "x")
        deep.mkdir()
        with opened(deep) as switchboard:
            assert switchboard.endpoint.startswith(f"{request.param}:")
            yield switchboard


def turn(switchboard: Switchboard) -> list[Heard]:
    ready = {key.fd for key, _ in switchboard.selector.select(0.01)}
    return switchboard.receive(ready)


def hear(switchboard: Switchboard, turns: int = 500) -> list[Heard]:
    for _ in range(turns):
        if heard := turn(switchboard):
            return heard
    return []


def call(switchboard: Switchboard) -> socket.socket:
    """A caller who has not said a word yet."""
    kind, _, place = switchboard.endpoint.partition(":")
    if kind == "unix":
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(place)
        return caller
    return socket.create_connection((place.split(":")[0], int(place.split(":")[1])))


def child(switchboard: Switchboard, name: str = "child") -> socket.socket:
    """One that is known by its token."""
    token = switchboard.expect(name)
    caller = call(switchboard)
    caller.sendall(token[:PROOF_BYTES].encode())
    caller.settimeout(0.01)
    for _ in range(500):
        turn(switchboard)
        with contextlib.suppress(TimeoutError):
            assert caller.recv(PROOF_BYTES).decode() == token[PROOF_BYTES:]
            caller.settimeout(PATIENCE)
            return caller
    raise AssertionError("the child got no answer")


def hung_up(caller: socket.socket) -> bool:
    caller.settimeout(PATIENCE)
    try:
        return caller.recv(1) == b""
    except ConnectionError:
        return True


def test_a_child_is_heard_with_its_files_and_answered(switchboard):
    with child(switchboard) as caller:
        caller.sendall(pack(b"message", [b"one", b"two"]) + pack(b"more"))
        assert hear(switchboard) == [Heard("child", b"message", b"onetwo")]
        assert hear(switchboard) == [Heard("child", b"more")]
        switchboard.send("child", pack(b"answer"))
        assert Wire(caller, 100, 0).receive() == (b"answer", b"")


def test_an_answer_that_the_kernel_does_not_take_at_once_arrives_whole(switchboard):
    with child(switchboard) as caller:
        long = os.urandom(5 << 20)
        switchboard.send("child", pack(long[:-1]))
        switchboard.send("child", pack(long[-1:]))
        caller.setblocking(False)
        ours, received = Wire(caller, 1 << 30, 0), []
        deadline = time.monotonic() + PATIENCE
        while len(received) < 2 and time.monotonic() < deadline:
            turn(switchboard)
            received += [got for got in [ours.receive()] if got]
        assert b"".join(message for message, _ in received) == long


@pytest.mark.parametrize(
    "said", [b"", b"?", b"?" * PROOF_BYTES, b"\xff\x00" * 500, b"GET / HTTP/1.1\r\n\r\n"]
)
def test_a_stranger_gets_no_word_and_is_hung_up_on(switchboard, said):
    switchboard.expect("child")
    with call(switchboard) as caller:
        caller.sendall(said)
        if not said:
            caller.shutdown(socket.SHUT_WR)
        assert hear(switchboard, turns=20) == []
        assert hung_up(caller)


def test_a_token_serves_once(switchboard):
    token = switchboard.expect("child")
    callers = [call(switchboard) for _ in range(2)]
    with callers[0], callers[1]:
        for caller in callers:
            caller.sendall(token[:PROOF_BYTES].encode() + pack(b"hello"))
        heard = [*hear(switchboard), *hear(switchboard, turns=20)]
        assert heard == [Heard("child", b"hello")]


def test_a_child_tells_an_impostor_nothing_and_obeys_no_order_of_his(tmp_path):
    """Somebody else may listen where the parent did, once that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        address = f"tcp:127.0.0.1:{impostor.getsockname()[1]}"
        token = "a" * PROOF_BYTES + "b" * PROOF_BYTES
        impostor.settimeout(PATIENCE)

        def answer() -> None:
            with impostor.accept()[0] as caller:
                heard.append(caller.recv(4096))
                caller.sendall(heard[0] + pack(b"an order"))

        heard: list[bytes] = []
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(WireError, match="not the parent"):
            connect(address, token)
        thread.join()
        assert heard == [b"a" * PROOF_BYTES]


def test_thousands_of_strangers_cost_a_few_descriptors_and_keep_no_child_out(switchboard):
    """While somebody calls without end, a child calls too."""
    open_before = len(psutil.Process().net_connections("all"))
    strangers = []
    try:
        for number in range(3000):
            strangers.append(call(switchboard))
            if number % 20 == 0:  # the kernel keeps about a hundred calls that nobody took
                turn(switchboard)
            if len(strangers) > 100:
                strangers.pop(0).close()
        for _ in range(20):
            turn(switchboard)
        ours = len(psutil.Process().net_connections("all")) - open_before - len(strangers)
        assert ours <= 100  # 32 are; without a limit it would keep all of them, thousands
        with child(switchboard) as caller:
            caller.sendall(pack(b"hello"))
            assert hear(switchboard) == [Heard("child", b"hello")]
    finally:
        for caller in strangers:
            caller.close()


@pytest.mark.parametrize(
    ("message", "files", "says"),
    [
        (MESSAGE_BYTES + 1, 0, "message of 131073 bytes, where 131072 are the most"),
        (1, FILES + 1, "files of 1001 bytes, where 1000 are the most"),
        ((1 << 32) - 1, (1 << 64) - 1, "message of 4294967295 bytes"),
    ],
)
def test_a_message_that_is_longer_than_any_is_refused_unread(switchboard, message, files, says):
    with child(switchboard) as caller:
        caller.sendall(HEADER.pack(message, files))
        (heard,) = hear(switchboard)
        assert says in heard.fault
        assert hung_up(caller)


def test_what_is_announced_takes_no_memory_before_it_is_there(monkeypatch):
    monkeypatch.setattr(wire, "MESSAGE_BYTES", 1 << 30)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(HEADER.pack(1 << 30, 0) + b"drip")
        tracemalloc.start()
        try:
            assert Wire(ours, 1 << 30, 0).receive() is None
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_who_sends_faster_than_it_is_heard_is_stopped_by_the_kernel(switchboard):
    with child(switchboard) as caller:
        caller.setblocking(False)
        sent, message = 0, pack(b"?" * 1000)
        with contextlib.suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += caller.send(message)
        assert sent < 64 << 20, "nobody listens yet"
        assert len(turn(switchboard)) == 1, "one message a turn"


def test_last_words_are_heard_and_do_not_go_on_for_ever(switchboard):
    with child(switchboard) as caller:
        for number in range(50):
            caller.sendall(pack(b"%d" % number))
    assert [heard.message for heard in switchboard.last_words("child")] == [
        b"%d" % number for number in range(50)
    ]
    assert switchboard.last_words("child") == []


@given(
    messages=st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=5),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=50),
)
@settings(deadline=None)
def test_messages_arrive_whole_however_they_are_cut(messages, cuts):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        reader, received = Wire(ours, 40, 40), []
        data = b"".join(pack(message, [files]) for message, files in messages)
        while data:
            size = cuts[len(data) % len(cuts)]
            theirs.sendall(data[:size])
            data = data[size:]
            while got := reader.receive():
                received.append(got)
        assert received == messages
        theirs.close()
        with pytest.raises(EOFError):
            reader.receive()
