"""What uv and pip say while they work, as one line: bytes, percent and the time left."""

from __future__ import annotations

import re
import sys
import time

from _venv import say

SHOW_EVERY_S = 10.0
"""Between two lines where stderr is no terminal."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

SIZE = r"([\d.]+) ?([KMG]?i?B)"
BAR = re.compile(rf"(\S+) +-+ +{SIZE}/{SIZE}")
"""uv on a terminal, once for each running download: `torch   ------   31.27 MiB/507.52 MiB`."""

DOWNLOAD = re.compile(rf"Download(?:ing|ed) (\S+)(?: \({SIZE}\))?")
"""uv into a pipe, and pip: `Downloading torch (507.5MiB)`; at the end of one, `Downloaded torch`."""

COUNT = re.compile(r"[(\[](\d+)/(\d+)[)\]]")
"""uv's packages that are done, of all: `[6/107] numpy==2.4.6`."""

DRAWN = re.compile(r"[\u2500-\u28ff]")
"""The characters of bars and spinners. Lines with them are for the eye, not for the log."""


class Progress:
    """How far a command is: one changing line on a terminal, else a line now and then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._start = time.monotonic()
        self._next = self._start + SHOW_EVERY_S
        self._live = sys.stderr.isatty()
        self._sizes: dict[str, float] = {}
        self._left: dict[str, float] = {}

    def saw(self, line: str) -> str:
        """Take note of a line of output. Returns what is worth logging of it."""
        line = ESCAPES.sub("", line).rstrip()
        count, bars, download = COUNT.search(line), BAR.findall(line), DOWNLOAD.search(line)
        if DRAWN.search(line):
            if count and int(count[2]):
                self._what = f"{count[1]} of {count[2]} packages"
            if "Preparing" in line:
                # A download without a bar any more has arrived.
                self._left = {}
                for name, there, there_unit, size, unit in bars:
                    self._sizes[name] = _bytes(size, unit)
                    self._left[name] = self._sizes[name] - _bytes(there, there_unit)
            return ""
        if download and download[2]:
            self._sizes[download[1]] = self._left[download[1]] = _bytes(download[2], download[3])
        elif download:
            self._left.pop(download[1], None)
        return line.strip()

    def text(self, now: float) -> str:
        """How far it is, in words."""
        passed = now - self._start
        text = f"{passed:4.0f} s  {self._what}"
        size, left = sum(self._sizes.values()), sum(self._left.values())
        if left and size > left:
            done = size - left
            text += f", {done / 1e9:.2f} of {size / 1e9:.2f} GB, {done / size:.0%}"
            text += f", about {passed * left / done:.0f} s more"
        return text

    def show(self) -> None:
        """Say it, if it is time to."""
        now = time.monotonic()
        if self._live:
            sys.stderr.write(f"\r{self.text(now)[:78]}\x1b[K")
            sys.stderr.flush()
        elif now >= self._next:
            self._next = now + SHOW_EVERY_S
            say(self.text(now))

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _bytes(number: str, unit: str) -> float:
    base = 1024 if "i" in unit else 1000
    return float(number) * float(base ** " KMG".index(unit[0] if len(unit) > 1 else " "))
