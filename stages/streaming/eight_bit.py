"""Numbers in eight bits with a scale for each row, and how far off that puts them.

A row x becomes q s, with s = max |x| / top and q of eight bits: whole numbers up to 127 (int8), or
float8_e4m3fn up to 448 (fp8). Rows of a weight (out, in) are its output channels, those of
activations (tokens, in) are tokens, so both factors stand before a sum of a product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

Kind = Literal["int8", "fp8"]
DTYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
TOP = {"int8": 127.0, "fp8": 448.0}
SCRATCH_NUMBERS = 8 * 2**20
"""float32 numbers that weights are rounded in at a time: 32 MiB."""
_SMALLEST = 2.0**-100
"""Of a scale: a row of zeros is not divided by zero."""
_SAMPLED_ROWS = 64
"""Rows of each tensor that errors are measured on."""


def rounded(values: torch.Tensor, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, n) of any floating dtype -> q of the same shape, and s, (rows, 1) float32.

    NaN and infinity in a row make its scale NaN, so a product with it is NaN as well.
    """
    scale = _scale(values.abs().amax(dim=-1, keepdim=True).float(), kind)
    scaled = values.float() / scale
    if kind == "int8":
        scaled = scaled.round()
    return scaled.clamp(-TOP[kind], TOP[kind]).to(DTYPES[kind]), scale


def _scale(largest: torch.Tensor, kind: Kind) -> torch.Tensor:
    """The factor of rows by their largest number; infinity gives NaN."""
    return (largest / TOP[kind]).clamp_min(_SMALLEST) + (largest - largest)


@dataclass
class RoundingErrors:
    """How far off rounding puts weights and activations, over a sample of rows of each tensor.

    watching  whether activations are measured now: for one evaluation a job, as it takes time
    """

    watching: bool = False
    _sums: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, what: str, exact: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
        """exact, q: (rows, n); scale: (rows, 1). Nothing waits for the device."""
        step = max(1, exact.shape[0] // _SAMPLED_ROWS)
        values = exact[::step].float()
        off = q[::step].float() * scale[::step] - values
        found = torch.stack([off.square().sum(), values.square().sum()])
        self._sums[what] = self._sums[what] + found if what in self._sums else found

    def forget(self, what: str) -> None:
        """Measure anew, for another job."""
        self._sums.pop(what, None)

    def share(self, what: str) -> float:
        """Relative L2 error of all that was added; 0 for nothing. Waits for the device."""
        if what not in self._sums:
            return 0.0
        off, whole = self._sums[what].tolist()
        return float((off / whole) ** 0.5) if whole else 0.0


class WeightRounder:
    """Rounds weights, part by part in a work space of its own."""

    def __init__(
        self, device: torch.device, kind: Kind, widest: int, errors: RoundingErrors | None = None
    ) -> None:
        """widest: the largest `in` of any weight; errors: told of each."""
        self._kind, self._errors = kind, errors
        self._scratch = torch.empty(
            max(SCRATCH_NUMBERS, widest), dtype=torch.float32, device=device
        )

    @staticmethod
    def nbytes(widest: int) -> int:
        """Of the work space."""
        return 4 * max(SCRATCH_NUMBERS, widest)

    def round(self, weight: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
        """weight: (out, in), floating; q: (out, in) of the kind's dtype; scale: (out,) float32.

        q and scale are written. The result is that of `rounded`, whatever the parts.
        """
        rows, columns = weight.shape
        step = min(rows, self._scratch.numel() // columns)
        for begin in range(0, rows, step):
            part = weight[begin : begin + step]
            work = self._scratch[: part.numel()].view(part.shape)
            work.copy_(part)
            largest = torch.linalg.vector_norm(work, float("inf"), dim=1)
            factor = _scale(largest, self._kind)
            scale[begin : begin + step] = factor
            work.div_(factor[:, None])
            if self._kind == "int8":
                work.round_()
            work.clamp_(-TOP[self._kind], TOP[self._kind])
            q[begin : begin + step].copy_(work)
        if self._errors is not None:
            self._errors.add("weights", weight, q, scale[:, None])
