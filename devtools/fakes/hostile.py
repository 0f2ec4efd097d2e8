"""A stage that turns on its parent: it has the child's connection, and says there what it wants."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from devtools.fakes.stages import NUMBERS, TROUBLED
from stages import contract
from stages.contract import Context, Params, Stage
from stages.process import protocol
from stages.process.child import HostProcess
from stages.process.wire import HEADER, MESSAGE_BYTES, pack

Attack = Literal[
    "ok",
    "hello again",
    "ready again",
    "another job",
    "an unknown kind",
    "not a message",
    "an empty message",
    "a bomb",
    "a huge message",
    "huge files",
    "half a message",
    "hanging up",
    "many messages",
    "many connections",
    "two last words",
    "a thread that goes on",
]
SECONDS = 1.0
"""How long a flood lasts that is not ended at once. An unlimited peer sends over 1 GiB in it."""
HUGE = 1 << 32


class HostileParams(Params):
    attack: Attack = Field("ok", description="what it does")


class Hostile(Stage):
    """Adds one, after an attack on the parent."""

    name = "fake.hostile"
    summary = "adds one, and attacks its parent"
    inputs = (NUMBERS,)
    outputs = (TROUBLED,)
    Params: ClassVar[type[contract.Params]] = HostileParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        if self.params.attack == "a thread that goes on":
            keep_reporting(context)
        elif self.params.attack != "ok":
            host = next(o for o in gc.get_objects() if isinstance(o, HostProcess))
            ATTACKS[self.params.attack](host)
        return {"troubled": inputs["numbers"] + np.float32(1)}


def say(host: HostProcess, message: protocol.Message) -> None:
    host.wire.send(pack(protocol.encode(message)))


def wait_for_the_end() -> None:
    """The parent has to end this process; if it does not, the job's time limit shows it."""
    time.sleep(3600)


def flood(host: HostProcess, data: bytes, seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            host.wire.socket.sendall(data)


def announce(host: HostProcess, message: int, files: int) -> None:
    host.wire.socket.sendall(HEADER.pack(message, files))
    flood(host, bytes(1 << 20))
    wait_for_the_end()


def half_a_message(host: HostProcess) -> None:
    """Byte by byte, and never whole; the heart cannot get a word in."""
    with host.wire.sending:
        host.wire.socket.sendall(HEADER.pack(MESSAGE_BYTES, 0))
        while True:
            host.wire.socket.sendall(b"?")
            time.sleep(0.01)


def hang_up(host: HostProcess) -> None:
    host.wire.socket.shutdown(socket.SHUT_RDWR)
    wait_for_the_end()


def many_connections(host: HostProcess) -> None:
    """As many as there may be, of which each says something else than its name."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    path = host.connection.endpoint.removeprefix("unix:")
    open_ones = []
    for number in range(5000):
        caller = socket.socket(socket.AF_UNIX)
        try:
            caller.connect(path)
            if number % 3:
                caller.sendall(bytes(1 + number % 64))
        except OSError:  # hung up on
            caller.close()
            continue
        open_ones.append(caller)
        if len(open_ones) > 2000:
            open_ones.pop(0).close()
    for caller in open_ones:
        caller.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def many_messages(host: HostProcess) -> None:
    """All of them in order, so that only their number is wrong."""
    beat = pack(protocol.encode(protocol.Heartbeat(rss=1, vram=-1))) * 1000
    note = "?" * (MESSAGE_BYTES >> 1)
    job = host.reports.job
    step = pack(protocol.encode(protocol.Progress(job=job, step=1, total=2, note=note)))
    with host.wire.sending:
        flood(host, beat)
        flood(host, step)


def keep_reporting(context: Context) -> None:
    """What a data loader's thread may do: report while the job computes, and long after it."""

    def report() -> None:
        for step in range(10**9):
            context.progress(step, 0)  # past its total, so that none is left out

    for _ in range(4):
        threading.Thread(target=report, daemon=True).start()
    time.sleep(SECONDS)


def then_wait(*messages: Callable[[HostProcess], protocol.Message]) -> Callable[..., None]:
    """Say this, and be found out by nothing else."""

    def attack(host: HostProcess) -> None:
        for message in messages:
            say(host, message(host))
        wait_for_the_end()

    return attack


def failed(host: HostProcess, kind: str = "internal") -> protocol.Message:
    job = host.reports.job
    return protocol.Failed(job=job, kind=kind, message="once", hint="", traceback="")


def raw(data: bytes) -> Callable[[HostProcess], None]:
    def attack(host: HostProcess) -> None:
        host.wire.send(data)
        wait_for_the_end()

    return attack


ATTACKS: dict[str, Callable[[HostProcess], None]] = {
    "hello again": then_wait(
        lambda _: protocol.Hello(stage="fake.hostile", pid=1, protocol=protocol.VERSION, warm=True)
    ),
    "ready again": then_wait(lambda _: protocol.Ready(timings={})),
    "another job": then_wait(
        lambda _: protocol.Done(job="another", outputs={}, timings={}, peaks={})
    ),
    "an unknown kind": then_wait(lambda host: failed(host, "odd")),
    "not a message": raw(pack(b"\xc1 garbage")),
    "an empty message": raw(pack(b"")),
    "a bomb": raw(pack(b"\xdd" + (MESSAGE_BYTES - 5).to_bytes(4) + b"\x80" * (MESSAGE_BYTES - 5))),
    "a huge message": lambda host: announce(host, HUGE - 1, 0),
    "huge files": lambda host: announce(host, 1, HUGE),
    "half a message": half_a_message,
    "hanging up": hang_up,
    "many messages": many_messages,
    "many connections": many_connections,
    "two last words": then_wait(failed, failed),
}
