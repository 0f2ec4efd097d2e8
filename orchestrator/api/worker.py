"""A worker: the process that carries out one request of `orchestrator.api`, as the program would.

    python -P -m orchestrator.api.worker     the request in a line on stdin, the answers on stdout

It is what the command line's own process is: signals are its own, it holds the guard and the run's
lock, and it ends as that does. One more line on stdin is a Ctrl-C, and so is stdin's end, which
comes when the caller's process is gone, however that ended.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from orchestrator.system.stop_signals import STOP

if TYPE_CHECKING:
    from orchestrator.commands.batch import Outcome
    from orchestrator.commands.batch_directory import Batch
    from orchestrator.errors import KissError
    from orchestrator.planning.request import Prepared
    from orchestrator.record.run_directory import RunDirectory
    from orchestrator.running.run_events import RunEvent

PATIENCE_SECONDS = 10.0
"""From the end of stdin to the second Ctrl-C, which nothing survives."""


class Teller:
    """Tells the caller, as long as there is one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def say(self, kind: str, /, **fields: object) -> None:
        from orchestrator.api.messages import line

        with contextlib.suppress(OSError):  # nobody listens: `listen` hears of that too
            self._stream.write(line(kind, **fields))
            self._stream.flush()

    def notify(self, event: RunEvent) -> None:
        self.say("event", kind=event.kind, job=event.job, node=event.node, fields=event.fields)

    @contextlib.contextmanager
    def view(self, prepared: Prepared, batch: Batch | None) -> Iterator[Teller]:
        """The observer of this work."""
        from orchestrator.running.time_left import expected_seconds

        nodes = list(prepared.graph.nodes.values())
        self.say(
            "prepared",
            profile=prepared.settings.name,
            reason=prepared.reason,
            nodes=[node.name for node in nodes],
            jobs=len(batch.jobs) if batch else 1,
            expected=expected_seconds(nodes),
        )
        if batch is not None:
            self.say("opened", path=batch.path.resolve())
        yield self

    def opened(self, run: RunDirectory) -> None:
        self.say("opened", path=run.path.resolve())

    def told(self, batch: Batch, outcomes: list[Outcome]) -> None:
        if not batch.jobs:  # a shard without a part in the list: nothing was ever opened
            self.say("opened", path=batch.path.resolve())
        self.say("outcomes", rows=[outcome.row() for outcome in outcomes])

    def failed(self, error: KissError) -> None:
        from orchestrator.api.messages import error_fields

        self.say("failed", **error_fields(error))


def main() -> None:
    """Carry out the request, and exit with the code that the command line would have."""
    STOP.take_over()
    teller = Teller(_own_stdout())
    line = sys.stdin.buffer.readline()
    code = 1
    try:
        code = _interruptible(line, teller)
    finally:
        STOP.let_go()
        sys.stdout.flush()
        os._exit(code)  # the thread that listens would be waited for, inside of its read


def _interruptible(line: bytes, teller: Teller) -> int:
    """The request with somebody who listens. Told to stop before or behind the work itself, be it
    while a thread starts or a module is imported, it ends as one that was stopped."""
    try:
        STOP.interrupt()
        threading.Thread(target=_listen, daemon=True).start()
        return _carry_out(line, teller)
    except BaseException:  # torn in the middle of its import, a library may raise its own
        if not STOP.count:
            raise
        from orchestrator.errors import InterruptedRunError

        hint = "there is no run directory: ask for the same again"
        teller.failed(InterruptedRunError("stopped before anything was begun", hint))
        return STOP.exit_code


def _own_stdout() -> IO[bytes]:
    """Stdout for messages alone: what is printed goes to stderr."""
    mine = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return mine


def _listen() -> None:
    """Each line is a Ctrl-C; the end is one, and one more when it has not helped."""
    while sys.stdin.buffer.readline():
        _thread.interrupt_main()
    _thread.interrupt_main()
    time.sleep(PATIENCE_SECONDS)
    _thread.interrupt_main()


def _carry_out(line: bytes, teller: Teller) -> int:
    from orchestrator.errors import KissError

    try:
        _do(line, teller)
    except KissError as error:
        teller.failed(error)
        return error.exit_code
    except BaseException as error:
        if STOP.count:
            raise
        from orchestrator.system.faults import as_told

        fault = as_told(error)
        teller.failed(fault)
        return fault.exit_code
    return 0


def _do(line: bytes, teller: Teller) -> None:
    import json

    from orchestrator.processes.workspace import open_workspace

    data = json.loads(line)
    workspace = functools.partial(open_workspace, data["warm"])
    if data["task"] == "batch":
        from orchestrator.api.request import Request
        from orchestrator.commands import carry_out

        request = Request.from_data(data)
        assert request.folder is not None
        shell = carry_out.Shell(teller.view, teller.opened, teller.told)
        carry_out.batch(request.folder, request.options, request.keep_is_open, workspace, shell)
        return
    with workspace() as place:  # first: it boots while the rest is imported
        from orchestrator.api.request import Request
        from orchestrator.commands import batch_directory, carry_out

        request = Request.from_data(data)
        shell = carry_out.Shell(teller.view, teller.opened, teller.told)
        path = request.output
        if request.task == "run":
            assert request.subject is not None
            carry_out.run(request.subject, path, request.options, place, shell)
        elif request.task == "candidates":
            assert request.subject is not None
            carry_out.candidates(request.subject, path, request.options, place, shell)
        elif path is not None and batch_directory.is_batch(path):
            carry_out.resume_batch(path, request.options, place, shell)
        else:
            assert path is not None
            carry_out.resume(path, request.options, place, shell)


if __name__ == "__main__":
    main()
