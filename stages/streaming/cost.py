"""Seconds that one evaluation takes when its weights are streamed: a timeline of three machines.

Readers fill the ring from the file, the link copies from host to card, the card computes. The
rules are the streamer's: blocks are read and copied in execution order, a copy needs a free slot,
a read needs room in the ring, and computing needs the copy. Nothing else costs time in this model:
not launches, not the memory bandwidth that readers and link share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from stages.streaming.tiers import BlockSize, TierPlan


@dataclass(frozen=True)
class Rates:
    """Bytes per second: pinned host memory to card, and file (page cache or drive) to host."""

    link: float
    file: float


@dataclass(frozen=True)
class Load:
    """What one block asks of the machine: seconds of computing, bytes over each link."""

    seconds: float
    link_bytes: int = 0
    file_bytes: int = 0


def loads(blocks: Sequence[BlockSize], plan: TierPlan, seconds: Sequence[float]) -> list[Load]:
    """Each block's load under a plan. seconds: computing time of each block."""
    result = []
    for block, tier, time in zip(blocks, plan.tiers, seconds, strict=True):
        if tier == "card":
            result.append(Load(time))
        elif tier == "host":
            result.append(Load(time, block.host))
        else:
            result.append(Load(time, block.file, block.file))
    return result


def seconds_per_evaluation(
    blocks: Sequence[Load], rates: Rates, slots: int = 2, ring_bytes: int = 0, warm_up: int = 2
) -> float:
    """Seconds of one evaluation after `warm_up` others, when the pipeline is full.

    ring_bytes: 0 for a ring that never runs out.
    """
    computed = copied = read = 0.0
    in_slots: deque[float] = deque([0.0] * slots)  # when each slot's block has been computed
    in_ring: deque[tuple[float, int]] = deque()  # (when copied out, bytes)
    ring_used = 0
    began = 0.0
    for evaluation in range(warm_up + 1):
        if evaluation == warm_up:
            began = computed
        for block in blocks:
            if block.file_bytes:
                while in_ring and ring_bytes and ring_used + block.file_bytes > ring_bytes:
                    free_at, size = in_ring.popleft()
                    ring_used -= size
                    read = max(read, free_at)
                read += block.file_bytes / rates.file
            if block.link_bytes:
                arrived = read if block.file_bytes else 0.0
                copied = max(copied, arrived, in_slots.popleft()) + block.link_bytes / rates.link
                if block.file_bytes:
                    in_ring.append((copied, block.file_bytes))
                    ring_used += block.file_bytes
                computed = max(computed, copied)
            computed += block.seconds
            if block.link_bytes:
                in_slots.append(computed)
    return computed - began
