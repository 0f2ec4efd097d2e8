"""What a stage process tells about itself."""

from __future__ import annotations

import socket
import sys
import threading
import types

from stages.process import child as host
from stages.process import protocol
from stages.process.connection import Connection
from stages.process.wire import Wire


def test_a_heartbeat_during_the_import_of_torch_says_no_vram_and_does_not_fail(monkeypatch):
    """A module that is being imported is in sys.modules already, without what it will have."""
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    heart = host.Heart(Connection("", "", "", "", 0, 0, 1.0, 0.0), None)
    assert heart.beat().vram == -1
    assert heart.peaks["vram"] == -1


def test_a_heart_outlives_a_cuda_context_that_an_error_has_poisoned(monkeypatch):
    """It also watches the parent, and the failure that is about to be told waits for it."""

    def poisoned() -> int:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(
        is_initialized=lambda: True, memory_reserved=lambda: 5, max_memory_reserved=lambda: 7
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    heart = host.Heart(Connection("", "", "", "", 0, 0, 1.0, 0.0), None)
    heart.beat()
    torch.cuda.memory_reserved = poisoned
    assert heart.beat().vram == -1
    assert heart.peaks["vram"] == 7, "what was seen before counts on"


def test_threads_of_a_stage_report_whole_messages_and_none_after_the_last_word(monkeypatch):
    """A data loader's threads call `progress` when they like; one that outlives its job is silent,
    else the next job's parent would hear of another one, which is a fault."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(host, "connect", lambda endpoint, token: Wire(theirs, 1 << 20, 0))
    child = host.HostProcess(Connection("", "", "", "", 0, 0, 1.0, 0.0), warm=False)
    child._job = "job"

    def report() -> None:
        for step in range(300):
            child._progress("job", step, 0, "?" * (step % 7))

    threads = [threading.Thread(target=report) for _ in range(4)]
    with ours, theirs:
        for thread in threads:
            thread.start()
        wire = Wire(ours, 1 << 20, 1 << 20)
        heard = [wire.receive()[0] for _ in range(4 * 150)]
        ender = threading.Thread(
            target=lambda: child._end_job(
                protocol.Done(job="job", outputs={}, timings={}, peaks={}), [b"file"]
            )
        )
        ender.start()
        while not isinstance(protocol.decode(heard[-1]), protocol.Done):
            heard.append(wire.receive()[0])
        for thread in (*threads, ender):
            thread.join()
        *reports, last = map(protocol.decode, heard)
        assert {type(report) for report in reports} == {protocol.Progress}
        assert isinstance(last, protocol.Done)
        child._progress("job", 1, 1, "")
        ours.setblocking(False)
        assert wire.receive() is None
