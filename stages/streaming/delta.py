"""Low-rank changes of weights (LoRA), merged in one way wherever the weights are.

A block in card or host memory is merged once, when it is loaded; a block that streams from its
file is merged each time, on the card. Both call `Merger.merge`, on the same device with the same
partition into rows, so the result is the same bit for bit whatever the budgets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

SCRATCH_NUMBERS = 8 * 2**20
"""float32 numbers of work space: 32 MiB on the card, 680 rows of FLUX's widest layer."""


@dataclass(frozen=True)
class LowRankDelta:
    """delta W = up @ down, with every scale already in `up`.

    up    (out, r)
    down  (r, in)
    """

    up: torch.Tensor
    down: torch.Tensor

    def __post_init__(self) -> None:
        if self.up.ndim != 2 or self.down.ndim != 2 or self.up.shape[1] != self.down.shape[0]:
            raise ValueError(
                f"no low-rank pair: up {tuple(self.up.shape)}, down {tuple(self.down.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the weight that it changes."""
        return self.up.shape[0], self.down.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes in float32, as it is kept."""
        return 4 * (self.up.numel() + self.down.numel())

    def to(self, device: torch.device) -> LowRankDelta:
        """In float32 on a device."""
        return LowRankDelta(
            self.up.to(device, torch.float32).contiguous(),
            self.down.to(device, torch.float32).contiguous(),
        )


class Merger:
    """Work space for merging on one device; allocates nothing afterwards."""

    def __init__(self, device: torch.device, widest: int) -> None:
        """widest: the largest `in` of any delta."""
        numbers = max(SCRATCH_NUMBERS, widest)
        self._scratch = torch.empty(numbers, dtype=torch.float32, device=device)

    def merge(self, weight: torch.Tensor, delta: LowRankDelta) -> None:
        """weight <- round(float32(weight) + up @ down), in place.

        weight: (out, in), contiguous, of any floating dtype. delta: from `LowRankDelta.to`.
        The product is float32, also while the process allows TF32: blocks of the host tier are
        merged at load, others in the middle of a job.
        """
        rows_in, columns = weight.shape
        step = min(rows_in, self._scratch.numel() // columns)
        with _whole_float32():
            for begin in range(0, rows_in, step):
                part = weight[begin : begin + step]
                work = self._scratch[: part.numel()].view(part.shape)
                work.copy_(part)
                work.addmm_(delta.up[begin : begin + step], delta.down)
                part.copy_(work)


@contextmanager
def _whole_float32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
