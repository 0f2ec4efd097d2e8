"""Rounding to eight bits and back, each in one pass over a card's memory.

Plain operators take six passes for the one and four for the other, which costs more than eight bits
save. What they compute is `eight_bit.rounded`, up to the last bit of a division. To be imported
where Triton is installed; on a CPU it runs in Triton's interpreter alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from stages.streaming.eight_bit import DTYPES, TOP, Kind

_ROUND = tl.constexpr(12582912.0)
"""1.5 * 2**23: added to a float32 below 2**22 and taken away, it rounds to whole numbers."""
_SMALLEST = tl.constexpr(2.0**-100)


@triton.jit
def _round_kernel(
    values: tl.tensor,
    q: tl.tensor,
    scale: tl.tensor,
    columns: tl.tensor,
    top: tl.constexpr,
    whole: tl.constexpr,
    width: tl.constexpr,
) -> None:
    """One row of contiguous (rows, columns)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, width)
    inside = at < columns
    x = tl.load(values + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    largest = tl.max(tl.abs(x), axis=0)
    not_finite = tl.sum(x - x, axis=0)  # 0, or NaN for NaN and infinity
    s = tl.maximum(largest / top, _SMALLEST)
    y = x / s
    if whole:
        y = (y + _ROUND) - _ROUND
    y = tl.minimum(tl.maximum(y, -top), top)
    tl.store(q + row * columns + at, y.to(q.dtype.element_ty), mask=inside)
    tl.store(scale + row, s + not_finite)


@triton.jit
def _unround_kernel(
    sums: tl.tensor,
    q_scale: tl.tensor,
    scale: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    columns: tl.tensor,
    has_bias: tl.constexpr,
    width: tl.constexpr,
) -> None:
    """A part of one row of contiguous (rows, columns)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * width + tl.arange(0, width)
    inside = at < columns
    y = tl.load(sums + row * columns + at, mask=inside, other=0).to(tl.float32)
    y = y * tl.load(q_scale + row) * tl.load(scale + at, mask=inside, other=0.0)
    if has_bias:
        y += tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * columns + at, y.to(out.dtype.element_ty), mask=inside)


def round_rows(values: torch.Tensor, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
    """As `eight_bit.rounded`; values: (rows, n), contiguous."""
    rows, columns = values.shape
    q = torch.empty(values.shape, dtype=DTYPES[kind], device=values.device)
    scale = torch.empty((rows, 1), dtype=torch.float32, device=values.device)
    width = triton.next_power_of_2(columns)
    _round_kernel[(rows,)](
        values,
        q,
        scale,
        columns,
        top=TOP[kind],
        whole=kind == "int8",
        width=width,
        num_warps=min(16, max(1, width // 1024)),
    )
    return q, scale


def unround_rows(
    sums: torch.Tensor,
    q_scale: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """out <- sums q_scale scale + bias; sums: (rows, n) int32; sums and out contiguous."""
    rows, columns = sums.shape
    width = 1024
    _unround_kernel[(rows, triton.cdiv(columns, width))](
        sums,
        q_scale,
        scale,
        scale if bias is None else bias,
        out,
        columns,
        has_bias=bias is not None,
        width=width,
    )
