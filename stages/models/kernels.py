"""Which of PyTorch's kernels a stage computes with on a card: TF32, and attention.

One place for both, so that the params mean the same in every stage. They are settings of the whole
process; `backends` puts them back afterwards. On the CPU they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import Field

from stages.contract import Params

Attention = Literal["auto", "flash", "efficient", "cudnn", "math"]
"""auto      PyTorch's own choice
flash     FlashAttention: float16 and bfloat16, no masks, heads up to 256 wide
efficient the memory-efficient kernel: also float32 and masks
cudnn     cuDNN's fused attention: float16 and bfloat16
math      plain matrix products: the whole attention matrix is in memory
"""
ORDER = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH", "CUDNN_ATTENTION")
"""PyTorch's order, in which the others follow the one that was chosen."""
CHOSEN = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "math": "MATH",
}


def _order(attention: Attention) -> tuple[str, ...]:
    """Names of PyTorch's backends in the order of preference; () for its own."""
    if attention == "auto":
        return ()
    return tuple(dict.fromkeys((CHOSEN[attention], *ORDER)))


class BackendParams(Params):
    """Params of a stage whose model computes on a card."""

    allow_tf32: bool = Field(
        False,
        description="on a card, multiply float32 matrices and convolutions with 10 bits of "
        "fraction: faster, not the same result; nothing changes in float16 and bfloat16",
    )
    attention: Attention = Field(
        "auto",
        description="on a card, the attention kernel that is tried first; a layer that it cannot "
        "compute takes another",
    )


@contextmanager
def backends(params: BackendParams) -> Iterator[None]:
    """Compute with these kernels inside of the block.

    False for `allow_tf32` is meant: PyTorch's default lets convolutions use TF32.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    convolutions = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), convolutions.allow_tf32
    order = _order(params.attention)
    torch.set_float32_matmul_precision("high" if params.allow_tf32 else "highest")
    convolutions.allow_tf32 = params.allow_tf32
    try:
        if order:
            with sdpa_kernel([getattr(SDPBackend, name) for name in order], set_priority=True):
                yield
        else:
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        convolutions.allow_tf32 = before[1]
