"""What a stage process tells of its job: to its parent, and to its log."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence

import numpy as np

from stages.process import protocol
from stages.process.reports import Reports
from stages.process.wire import Wire, pack

DONE = protocol.Done(job="job", outputs={}, timings={}, peaks={})


class Told:
    """A parent that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[protocol.Message] = []
        self.reports = Reports(self._hear)

    def _hear(self, message: protocol.Message, contents: Sequence[bytes]) -> None:
        self.heard.append(message)


def test_threads_of_a_stage_report_whole_messages_and_none_after_the_last_word():
    """A data loader's threads call `progress` when they like; one that outlives its job is silent,
    else the next job's parent would hear of another one, which is a fault."""
    ours, theirs = socket.socketpair()
    child = Wire(theirs, 1 << 20, 0)

    def send(message: protocol.Message, contents: Sequence[bytes]) -> None:
        child.send(pack(protocol.encode(message), contents))

    reports = Reports(send)
    reports.begin("job")

    def report() -> None:
        for step in range(300):
            reports.progress("job", step, 0, "?" * (step % 7))

    threads = [threading.Thread(target=report) for _ in range(4)]
    with ours, theirs:
        for thread in threads:
            thread.start()
        wire = Wire(ours, 1 << 20, 1 << 20)
        heard = [wire.receive()[0] for _ in range(4 * 150)]
        ender = threading.Thread(target=lambda: reports.end(DONE, [b"file"]))
        ender.start()
        while not isinstance(protocol.decode(heard[-1]), protocol.Done):
            heard.append(wire.receive()[0])
        for thread in (*threads, ender):
            thread.join()
        *told, last = map(protocol.decode, heard)
        assert {type(one) for one in told} == {protocol.Progress}
        assert isinstance(last, protocol.Done)
        reports.progress("job", 1, 1, "")
        ours.setblocking(False)
        assert wire.receive() is None


def test_the_log_has_each_note_once_however_fast_they_come_and_no_mere_count(caplog):
    caplog.set_level(logging.INFO)
    told = Told()
    told.reports.begin("mug")
    told.reports.progress("mug", 0, 4, "decode")
    told.reports.progress("mug", 1, 4, "cut out (guessed, 98 % sure)")
    for step in range(2, 60):
        told.reports.progress("mug", step, 60, f"refine: {100 * step} vertices")
    told.reports.progress("mug", 60, 60, "")
    told.reports.end(DONE)
    told.reports.progress("mug", 60, 60, "too late")
    assert [record.getMessage() for record in caplog.records] == [
        "mug: step 0/4: decode",
        "mug: step 1/4: cut out (guessed, 98 % sure)",
        "mug: step 2/60: refine: 200 vertices",
    ]


def test_no_more_pictures_are_sent_than_are_wanted_and_none_of_another_job():
    told = Told()
    told.reports.begin("mug", previews=2)
    for job in ("cup", "mug", "mug", "mug"):
        told.reports.preview(job, "latents", np.zeros((4, 4, 3), np.uint8))
    told.reports.preview("mug", "latents", "no picture")
    assert [type(one) for one in told.heard] == [protocol.Preview] * 2
