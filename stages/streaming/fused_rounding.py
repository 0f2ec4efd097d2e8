"""Rounding activations to eight bits, by Triton's kernels on a card where they work.

Where they do not (no Triton, or no C compiler for its launchers) plain operators do the same, and
`why_plain` says why. While a block is being compiled plain operators are taken as well: the
compiler fuses them with their neighbours.
"""

from __future__ import annotations

from typing import Any

import torch

from stages.streaming.eight_bit import Kind, rounded

_state: dict[str, Any] = {"kernels": None, "why": ""}
"""Of the process: the module of Triton's kernels once it was needed, and why it cannot be used."""


def why_plain() -> str:
    """Why Triton's kernels are not used on this card, "" if they are, or were not needed."""
    return str(_state["why"])


def rounded_rows(rows: torch.Tensor, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
    """See `eight_bit.rounded`; rows: (rows, n)."""
    kernels = _kernels(rows)
    if kernels is not None:
        try:
            found: tuple[torch.Tensor, torch.Tensor] = kernels.round_rows(rows.contiguous(), kind)
            return found
        except Exception as error:  # noqa: BLE001 (whatever a compiler may raise)
            _give_up(error)
    return rounded(rows, kind)


def unrounded(
    sums: torch.Tensor,
    q_scale: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """out <- sums q_scale scale + bias.

    sums: (rows, n) int32; q_scale: (rows, 1), scale: (n,) float32; bias: (n,); out: (rows, n).
    """
    kernels = _kernels(sums)
    if kernels is not None:
        try:
            kernels.unround_rows(sums, q_scale, scale, bias, out)
            return
        except Exception as error:  # noqa: BLE001 (whatever a compiler may raise)
            _give_up(error)
    product = sums.float().mul_(q_scale).mul_(scale)
    out.copy_(product if bias is None else product.add_(bias))


def _kernels(tensor: torch.Tensor) -> Any:
    """The module of kernels, or None where plain operators are to be taken."""
    if not tensor.is_cuda or torch.compiler.is_compiling() or _state["why"]:
        return None
    if _state["kernels"] is None:
        try:
            from stages.streaming import triton_rounding

            _state["kernels"] = triton_rounding
        except Exception as error:  # noqa: BLE001 (whatever a compiler may raise)
            _give_up(error)
    return _state["kernels"]


def _give_up(error: Exception) -> None:
    """Take plain operators from now on. Raises the error again where it is not Triton's."""
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
        raise error
    lines = [line for line in str(error).splitlines() if line.strip()]  # the cause is the last one
    _state["why"] = f"{type(error).__name__}: {lines[-1] if lines else ''}"[:200]
    _state["kernels"] = None
