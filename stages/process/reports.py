"""What a stage process says of the job that it computes, to its parent and to its log."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from stages.process import protocol
from stages.process.preview import shrunk

log = logging.getLogger("stages.process")

_LEAST_SECONDS = 0.05
"""Between two reports of progress: 20 a second are enough for any screen."""
_DIGITS = re.compile(r"\d+")


class Reports:
    """Progress and pictures of one job after the other, from any thread of the stage.

    A thread that outlives its job is silent: its parent would hear of another job than it asked
    for, which is a fault.

    send  hands a message and its contents on to the parent
    job   which one is computed; "" between two
    """

    def __init__(self, send: Callable[[protocol.Message, Sequence[bytes]], None]) -> None:
        self._send = send
        self.job = ""
        self._reporting = threading.Lock()  # held while `job` is looked at and spoken of
        self._last_progress = 0.0
        self._noted = ""
        self._previews = 0  # that are still wanted of this job

    def begin(self, job: str, previews: int = 0) -> None:
        """previews: how many pictures of it are wanted"""
        with self._reporting:
            self.job, self._previews, self._noted = job, previews, ""

    def end(self, message: protocol.Message, contents: Sequence[bytes] = ()) -> None:
        """The last word on a job."""
        with self._reporting:
            self.job = ""
            self._send(message, contents)

    def progress(self, job: str, step: int, total: int, note: str) -> None:
        """The last step always goes out, the others as often as a screen needs them. The log gets
        each note that differs from the one before in more than its numbers."""
        with self._reporting:
            if job != self.job:
                return
            kind = _DIGITS.sub("", note)
            if kind and kind != self._noted:
                self._noted = kind
                log.info("%s: step %d/%d: %s", job, step, total, note)
            now = time.monotonic()
            if step >= total or now - self._last_progress >= _LEAST_SECONDS:
                self._last_progress = now
                self._send(protocol.Progress(job=job, step=step, total=total, note=note), ())

    def preview(self, job: str, name: str, pixels: Any) -> None:
        """Send a picture on, if more are wanted; one that is none must not cost the job."""
        if self._previews < 1:
            return
        try:
            small = shrunk(pixels)
        except Exception:
            log.exception("no preview")
            return
        height, width = small.shape[:2]
        with self._reporting:
            if job == self.job and self._previews > 0:
                self._previews -= 1
                picture = protocol.Preview(
                    job=job, name=name, height=height, width=width, pixels=small.tobytes()
                )
                self._send(picture, ())
