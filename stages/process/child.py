"""The child process: one stage behind a socket.

    python -m stages.process.child --connect FILE    started by the parent; FILE holds the
                                                     `Connection`
    python -m stages.process.child --job FILE        started by hand: one job described in a JSON
                                                     file

The main thread computes and hears the parent; a second one sends heartbeats over the same
connection and watches the parent, so that a stage that never returns to Python's loop is still
seen, and a child never outlives its parent. A stage may report progress from any thread.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from stages.contract import Context
from stages.contract.failures import Failure, classify
from stages.process import protocol
from stages.process.connection import Connection
from stages.process.page_cache import CacheWarmer, weight_files
from stages.process.parent_watch import EXIT_ORPHANED, die_with_parent
from stages.process.reports import Reports
from stages.process.single_job import run_job_file
from stages.process.stage_runner import StageRunner
from stages.process.threads import keep_to
from stages.process.vram_cap import cap_device_memory
from stages.process.wire import Wire, connect, pack

_PARENT_CHECK_SECONDS = 0.25

log = logging.getLogger("stages.process.child")


def _rss_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _vram_bytes() -> tuple[int, int]:
    """Bytes that torch holds on the card, and the most it ever did; -1 without a CUDA context."""
    # Asked from the heartbeat's thread, while the other one may be in the middle of that import.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    initialized = getattr(cuda, "is_initialized", None)
    if cuda is None or initialized is None or not initialized():
        return -1, -1
    try:
        return int(cuda.memory_reserved()), int(cuda.max_memory_reserved())
    except RuntimeError:  # a context that an earlier CUDA error has poisoned answers nothing
        return -1, -1


class Heart(threading.Thread):
    """Heartbeats to the parent, and the most memory that was held: `peaks`, in bytes.

    rss, vram   the most (of the card: by torch's allocator); reserved: what that holds now
    """

    def __init__(self, connection: Connection, wire: Wire) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._connection = connection
        self._wire = wire
        self._stopping = threading.Event()
        self._parent = os.getppid()
        self.peaks = {"rss": 0, "vram": -1, "reserved": -1}

    def beat(self) -> protocol.Heartbeat:
        rss, (reserved, most) = _rss_bytes(), _vram_bytes()
        self.peaks["rss"] = max(self.peaks["rss"], rss)
        self.peaks |= {"vram": max(self.peaks["vram"], most), "reserved": reserved}
        return protocol.Heartbeat(rss=rss, vram=reserved)

    def run(self) -> None:
        next_beat = 0.0
        while not self._stopping.wait(_PARENT_CHECK_SECONDS):
            if self._orphaned():
                # The whole group goes: a helper process of the stage must not stay behind.
                with contextlib.suppress(OSError, AttributeError):  # Windows has no groups
                    os.killpg(0, signal.SIGKILL)
                os._exit(EXIT_ORPHANED)
            beat = self.beat()
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._connection.heartbeat_interval
                with contextlib.suppress(OSError):  # the parent is gone: seen above
                    self._wire.send(pack(protocol.encode(beat)))

    def _orphaned(self) -> bool:
        import psutil

        return os.getppid() != self._parent or not psutil.pid_exists(
            self._connection.orchestrator_pid
        )

    def stop(self) -> None:
        self._stopping.set()


class HostProcess:
    """The stage core behind the parent's messages; `serve` returns when told to exit.

    connection, wire  how and over what the parent is spoken to
    reports           what it hears of the job that is computed
    """

    def __init__(self, connection: Connection, warm: bool) -> None:
        self.connection = connection
        self._warm = warm
        self.wire = connect(connection.endpoint, connection.token)
        self._heart = Heart(connection, self.wire)
        self.reports = Reports(self._send)

    def serve(self) -> None:
        self._send(
            protocol.Hello(
                stage=self.connection.stage,
                pid=os.getpid(),
                protocol=protocol.VERSION,
                warm=self._warm,
            )
        )
        self._heart.start()
        core: StageRunner | None = None
        hello = time.monotonic() - self.connection.started
        while True:
            message = self._receive()
            if isinstance(message, protocol.Prepare):
                self._prepare(message)
            elif isinstance(message, protocol.Load):
                core = self._load(message, hello)
            elif isinstance(message, protocol.Run) and core is not None:
                self._run(core, message)
            elif isinstance(message, protocol.Exit):
                if core is not None:
                    core.close()
                break
        self._heart.stop()

    def _receive(self) -> protocol.Message:
        try:
            received = self.wire.receive()
        except (EOFError, OSError):
            self._await_end()
        return protocol.decode(received[0] if received else b"")

    def _send(self, message: protocol.Message, contents: Sequence[bytes] = ()) -> None:
        try:
            self.wire.send(pack(protocol.encode(message), contents))
        except OSError:
            self._await_end()

    def _await_end(self) -> NoReturn:
        """The parent has hung up: it is gone, and the heart ends us all, or it is about to."""
        self._heart.join()
        os._exit(EXIT_ORPHANED)

    def _prepare(self, message: protocol.Prepare) -> None:
        try:
            files = weight_files(self.connection.stage, message.params)
        except Exception:  # whatever it is, load() meets it again, where it can be told
            log.exception("no reading ahead")
            return
        CacheWarmer(files, message.limit).start()

    def _load(self, message: protocol.Load, spawned: float) -> StageRunner | None:
        began = time.perf_counter()
        # Before anything can initialise CUDA: the child sees the leased card only, or none.
        os.environ["CUDA_VISIBLE_DEVICES"] = message.gpu
        if message.device == "cpu":  # on a card they fill it with weights, and want the cores
            keep_to(message.threads)
        try:
            core = StageRunner(self.connection.stage, self.connection.inline_max_bytes)
            imported = time.perf_counter()
            context = Context(
                message.device,
                message.dtype,
                threads=message.threads,
                vram_bytes=message.vram_bytes,
                host_bytes=message.host_bytes,
            )
            if message.vram_bytes and message.device != "cpu":
                cap_device_memory(message.vram_bytes)
            core.load(message.params, context)
        except BaseException as error:
            self._fail("", error)
            return None
        loaded = time.perf_counter()
        self._send(
            protocol.Ready(
                timings={"spawn": spawned, "import": imported - began, "load": loaded - imported}
            )
        )
        return core

    def _run(self, core: StageRunner, message: protocol.Run) -> None:
        def progress(step: int, total: int, note: str = "") -> None:
            self.reports.progress(message.job, int(step), int(total), str(note)[:200])

        def preview(name: str, pixels: Any) -> None:
            self.reports.preview(message.job, str(name), pixels)

        self.reports.begin(message.job, message.previews)
        inputs = {name: [Path(path) for path in paths] for name, paths in message.inputs.items()}
        scratch = Path(message.scratch)
        try:
            result = core.run(
                inputs,
                Path(message.folder),
                scratch,
                message.seed,
                progress,
                message.previews,
                preview,
            )
        except BaseException as error:
            self._fail(message.job, error)
            return
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._heart.beat()
        done, contents = result.message(message.job, self._heart.peaks)
        self.reports.end(done, [contents])

    def _fail(self, job: str, error: BaseException) -> None:
        failure: Failure = classify(error)
        text = "".join(traceback.format_exception(error))
        self._heart.beat()
        self.reports.end(
            protocol.Failed(
                job=job,
                kind=failure.kind,
                message=failure.message[:4000],
                hint=failure.hint[:4000],
                traceback=text[-8000:],
                fatal=failure.fatal,
                peaks=dict(self._heart.peaks),
            )
        )
        with contextlib.suppress(OSError):  # the log may lie on the very disk that is full
            print(text, file=sys.stderr, flush=True)


def serve(connection: Connection, warm: bool) -> None:
    """Be a stage process until the parent says exit, then end at once.

    `os._exit` skips the interpreter's teardown (up to 0.3 s with torch loaded); by then the kernel
    has all that was sent, and the stage is closed.
    """
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    HostProcess(connection, warm).serve()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stages.process.child", description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--connect", type=Path, help="connection file written by the parent")
    group.add_argument("--job", type=Path, help="JSON file that describes one job")
    arguments = parser.parse_args()
    if arguments.job:
        faulthandler.enable()
        try:
            return run_job_file(arguments.job)
        except KeyboardInterrupt:
            return 130
    connection = Connection.load(arguments.connect)
    die_with_parent(connection.orchestrator_pid)
    serve(connection, warm=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
