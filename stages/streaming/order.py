"""Which block comes next.

A denoising loop runs its networks' blocks in a cycle, but not in the same one for ever: a
ControlNet is left out once its scale is 0. A prediction only decides what is fetched early; the
streamer labels what it fetched, so a wrong one costs a wait, never a wrong weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class ExecutionOrder:
    """A cycle of blocks, and the shortcuts through it that were taken last time."""

    def __init__(self, cycle: Sequence[int]) -> None:
        """cycle: block numbers as one evaluation is expected to run them; may repeat some."""
        self.expect(cycle)

    def expect(self, cycle: Sequence[int]) -> None:
        """From now on predict this cycle, beginning at its start."""
        if not cycle:
            raise ValueError("a cycle needs at least one block")
        self._cycle = tuple(cycle)
        self._jumps: dict[int, int] = {}
        self._last: int | None = None

    def ran(self, block: int) -> bool:
        """Note that `block` starts to run. False if another one was predicted.

        One that is not in the cycle at all changes no prediction.
        """
        position = self._next(self._last)
        if self._cycle[position] == block:
            self._last = position
            return True
        found = self._find(block, position)
        if found is None:
            return False
        if self._last is not None:
            self._jumps[self._last] = found
        self._last = found
        return False

    def upcoming(self) -> Iterator[int]:
        """The blocks predicted after the one that ran last, at most one cycle of them."""
        position = self._last
        for _ in self._cycle:
            position = self._next(position)
            yield self._cycle[position]

    def _next(self, position: int | None) -> int:
        if position is None:
            return 0
        return self._jumps.get(position, (position + 1) % len(self._cycle))

    def _find(self, block: int, start: int) -> int | None:
        count = len(self._cycle)
        for step in range(count):
            position = (start + step) % count
            if self._cycle[position] == block:
                return position
        return None
