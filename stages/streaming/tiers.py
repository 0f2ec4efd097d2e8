"""Which block of a network lives on the card, in pinned host memory, or in its file.

Pure arithmetic, so that the planner can predict a run without importing torch.

Which blocks stay on the card. Every byte kept there saves the same time on the link, so on average
the choice does not matter; but with two slots a block's transfer can only hide behind the blocks
that compute right before it. FLUX's double blocks (0.42 GiB) are twice its single ones and compute
about as long, so they are the first to be late: the longest transfers are spared first, and
within one size the spared blocks are spread evenly, which gives each transfer that is left as much
computing to hide behind as there is.

Which of the rest are pinned. The file is the slowest link and is read ahead into a small ring. A
run of file blocks would drain the ring and a run of pinned blocks would leave the readers idle, so
the two are interleaved in proportion to their bytes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tier = Literal["card", "host", "file"]

SLOTS = 2
"""One block computes while the next one arrives."""
RING_BLOCKS = 3
"""Largest blocks that the ring holds, where the budget allows: one on its way to the card, one
ready, one being read."""
LEAST_RING_BLOCKS = 1


@dataclass(frozen=True)
class BlockSize:
    """Bytes of one block: on the card and in a slot, in pinned memory, and read from the file.

    They differ where the file's or the stored dtype is not the one that computes.
    """

    card: int
    host: int
    file: int


@dataclass(frozen=True)
class TierPlan:
    """tiers: one a block, in execution order. All sizes are bytes.

    slots, slot_bytes   buffers on the card that blocks of the other tiers pass through
    pinned_bytes        weights that stay in host memory
    ring_bytes          host memory that the file is read into
    card_bytes          all on the card: what is always there, resident blocks and slots
    link_bytes          from host to card, a pass over all blocks
    file_bytes          from the file to the ring, a pass over all blocks
    """

    tiers: tuple[Tier, ...]
    slots: int
    slot_bytes: int
    pinned_bytes: int
    ring_bytes: int
    card_bytes: int
    link_bytes: int
    file_bytes: int

    @property
    def host_bytes(self) -> int:
        """Registered host memory."""
        return self.pinned_bytes + self.ring_bytes

    def count(self, tier: Tier) -> int:
        return self.tiers.count(tier)


class BudgetError(ValueError):
    """A budget is too small for any plan.

    link: "card" or "host"; needed, given: bytes.
    """

    def __init__(self, where: Literal["card", "host"], needed: int, given: int) -> None:
        self.where, self.needed, self.given = where, needed, given
        super().__init__(
            f"streaming needs at least {needed / 2**30:.2f} GiB of {where} memory for weights, "
            f"{given / 2**30:.2f} GiB are allowed"
        )


def plan_tiers(
    blocks: Sequence[BlockSize], rest_bytes: int, vram_bytes: int, host_bytes: int
) -> TierPlan:
    """The plan that sends the fewest bytes over the slowest links.

    blocks      in execution order
    rest_bytes  weights and work space that are on the card whatever the plan
    vram_bytes  for all weights on the card (not for activations or the CUDA context)
    host_bytes  for registered memory (the page cache is not counted: the system can take it back)

    Raises `BudgetError` where not even two slots, or a ring of one block, fit.
    """
    resident, slots, slot_bytes = _choose_resident(blocks, vram_bytes - rest_bytes, rest_bytes)
    others = [index for index in range(len(blocks)) if index not in resident]
    pinned, ring_bytes = _choose_pinned(blocks, others, host_bytes)
    tiers = tuple[Tier, ...](
        "card" if index in resident else "host" if index in pinned else "file"
        for index in range(len(blocks))
    )
    from_file = [block.file for block, tier in zip(blocks, tiers, strict=True) if tier == "file"]
    pinned_bytes = sum(blocks[index].host for index in pinned)
    return TierPlan(
        tiers=tiers,
        slots=slots,
        slot_bytes=slot_bytes,
        pinned_bytes=pinned_bytes,
        ring_bytes=ring_bytes,
        card_bytes=rest_bytes + slots * slot_bytes + sum(blocks[index].card for index in resident),
        link_bytes=pinned_bytes + sum(from_file),
        file_bytes=sum(from_file),
    )


def _choose_resident(
    blocks: Sequence[BlockSize], room: int, rest_bytes: int
) -> tuple[set[int], int, int]:
    """Indices of resident blocks, number of slots, bytes of a slot."""
    if sum(block.card for block in blocks) <= room:
        return set(range(len(blocks))), 0, 0
    slots = min(SLOTS, len(blocks))
    # Small slots leave room for more, but all larger blocks have to stay: the smallest that do.
    for slot_bytes in sorted({block.card for block in blocks}):
        resident = _spared(blocks, room - slots * slot_bytes)
        moved = [block.card for index, block in enumerate(blocks) if index not in resident]
        if max(moved) <= slot_bytes and slots * slot_bytes <= room:
            return resident, slots, slot_bytes
    needed = rest_bytes + slots * max(block.card for block in blocks)
    raise BudgetError("card", needed, rest_bytes + room)


def _spared(blocks: Sequence[BlockSize], room: int) -> set[int]:
    """The largest blocks that fit into `room`, evenly spread within one size."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, block in enumerate(blocks):
        by_size[block.card].append(index)
    spared: set[int] = set()
    for size in sorted(by_size, reverse=True):
        same = by_size[size]
        count = len(same) if size == 0 else max(0, min(len(same), room // size))
        spared.update(same[math.floor((k + 0.5) * len(same) / count)] for k in range(count))
        room -= count * size
    return spared


def _choose_pinned(
    blocks: Sequence[BlockSize], others: Sequence[int], host_bytes: int
) -> tuple[set[int], int]:
    """Indices of pinned blocks, and bytes of the ring for those that are left."""
    if sum(blocks[index].host for index in others) <= host_bytes:
        return set(others), 0
    largest = max(blocks[index].file for index in others)
    if host_bytes < LEAST_RING_BLOCKS * largest:
        raise BudgetError("host", LEAST_RING_BLOCKS * largest, host_bytes)
    ring_bytes = min(RING_BLOCKS * largest, host_bytes)
    room = host_bytes - ring_bytes
    share = room / sum(blocks[index].host for index in others)
    pinned: set[int] = set()
    owed = 0.0
    for index in others:
        size = blocks[index].host
        owed += share * size
        if owed >= size / 2 and size <= room:
            pinned.add(index)
            owed -= size
            room -= size
    return pinned, ring_bytes
