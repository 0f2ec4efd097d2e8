"""What uv and pip say while they work, as one line: bytes, percent and the time left."""

from __future__ import annotations

import re
import sys
import time

from _venv import say

LINE_S, UPDATE_S = 10.0, 0.2
"""Between two lines where stderr is no terminal, and between two changes of the line on one."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DRAWN = re.compile(r"[\u2500-\u28ff]")
"""The characters of bars and spinners. Lines with them are for the eye, not for the log."""

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SIZE = r"([\d.]+) ?([KMG]iB|B)"
BAR = re.compile(rf"(\S+) +-+ +{SIZE}/{SIZE}")
"""uv on a terminal, once for each running download: `torch   ------   31.27 MiB/507.52 MiB`."""

DOWNLOAD = re.compile(rf"Download(?:ing|ed) (\S+)(?: \({SIZE}\))?")
"""uv into a pipe: `Downloading torch (507.5MiB)`, and at its end `Downloaded torch`."""

COUNT = re.compile(r"[(\[](\d+/[1-9]\d*)[)\]]")
"""uv's packages that are done, of all: `[6/107] numpy==2.4.6`."""


class Progress:
    """How far a command is: one changing line on a terminal, else a line now and then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = sys.stderr.isatty()
        self._start = time.monotonic()
        self._next = self._start + (0 if self._live else LINE_S)
        self._sizes: dict[str, float] = {}
        self._left: dict[str, float] = {}

    def saw(self, line: str) -> str:
        """Take note of a line of output, and show it if it is time to; return what to log of it."""
        line = ESCAPES.sub("", line).strip()
        drawn = DRAWN.search(line) is not None
        count, download = COUNT.search(line), DOWNLOAD.search(line)
        if drawn and count:
            # A download that has no bar any more has arrived.
            self._what, self._left = f"{count[1]} packages", {}
            for name, there, there_unit, size, unit in BAR.findall(line):
                self._sizes[name] = _bytes(size, unit)
                self._left[name] = self._sizes[name] - _bytes(there, there_unit)
        elif line:
            self._what = line[:60]
        if download and download[2]:
            self._sizes[download[1]] = self._left[download[1]] = _bytes(download[2], download[3])
        elif download:
            self._left.pop(download[1], None)
        self._show(time.monotonic())
        return "" if drawn else line

    def text(self, now: float) -> str:
        """How far it is, in words."""
        text = f"{now - self._start:4.0f} s  {self._what}"
        size, left = sum(self._sizes.values()), sum(self._left.values())
        if left and size > left:
            there = size - left
            text += f", {there / 1e9:.2f} of {size / 1e9:.2f} GB ({there / size:.0%})"
            if there > size / 20:  # before that, sizes are still coming in
                text += f", about {(now - self._start) * left / there:.0f} s more"
        return text

    def _show(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + (UPDATE_S if self._live else LINE_S)
        if self._live:
            sys.stderr.write(f"\r{self.text(now)[:78]}\x1b[K")
            sys.stderr.flush()
        else:
            say(self.text(now))

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _bytes(number: str, unit: str) -> float:
    return float(number) * UNITS[unit]
