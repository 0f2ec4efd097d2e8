"""The clock that limits are held against: it stands still while this program does.

A suspended laptop, a stopped process tree, a paused virtual machine or container: no clock of the
system is known to stop in all of them. This one is looked at several times a second, and what lies
between two looks counts as half a second at most. Everything that a child may take too long for,
and every silence, is measured in it, so a freeze of any length costs no attempt.
"""

from __future__ import annotations

import time

LOOK_SECONDS = 0.25
"""How often whoever waits has to look at least."""
MOST_SECONDS = 0.5
"""What one step between two looks counts at most."""


class _Clock:
    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._counted = 0.0

    def now(self) -> float:
        seen = time.monotonic()
        self._counted += min(seen - self._seen, MOST_SECONDS)
        self._seen = seen
        return self._counted


now = _Clock().now
"""Seconds, counted from an arbitrary moment. One clock a program, for one thread."""
