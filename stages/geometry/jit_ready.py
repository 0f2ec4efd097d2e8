"""What numba builds up before a process's first kernel, half a second's work, is there once this is
imported. A warm template imports it, and every stage that it forks has it."""

from __future__ import annotations

from stages.geometry.jit import kernel


@kernel
def nothing() -> int:
    """Compiles in no time."""
    return 0


nothing()
