"""Places in a ring of bytes, given out and taken back in the same order."""

from __future__ import annotations

from collections import deque


class Ring:
    """First in, first out; each place is contiguous, so some bytes at the end may lie idle."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._places: deque[tuple[int, int]] = deque()  # (begin, end), oldest first

    def allocate(self, nbytes: int) -> int | None:
        """Where `nbytes` may begin, or None while there is no room for them."""
        if not self._places:
            begin = 0 if nbytes <= self._nbytes else None
        else:
            oldest, newest = self._places[0][0], self._places[-1]
            wrapped = newest[0] < oldest
            if wrapped:
                begin = newest[1] if newest[1] + nbytes <= oldest else None
            elif newest[1] + nbytes <= self._nbytes:
                begin = newest[1]
            else:
                begin = 0 if nbytes <= oldest else None
        if begin is not None:
            self._places.append((begin, begin + nbytes))
        return begin

    def free_oldest(self) -> None:
        self._places.popleft()
