"""How tests wait: for a thing to happen, however long that takes on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 900.0
"""Seconds until a test gives up on what an idle machine does in a few: only a hang takes so long.
pytest's own limit for a test, in pyproject.toml, is longer still."""


def eventually(holds: Callable[[], T], within: float = PATIENCE) -> T:
    """What `holds` returns, as soon as that is true. AssertionError after `within` seconds."""
    end = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < end, f"still not so after {within:g} s"
        time.sleep(0.01)
    return found
