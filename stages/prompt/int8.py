"""Linear layers with 8-bit weights: half the memory of bfloat16, activations untouched.

Weights are rounded to w = q s with int8 q and one scale s = max |w| / 127 for each output row. Only
weights are: Qwen2 has single activations hundreds of times larger than the rest, which an 8-bit
activation (torch's dynamic quantisation) would drown everything else in.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

PACKED_ROWS = 64
"""Up to this many rows at once (generated tokens: one a sequence) torch's kernel for packed int8 is
the fastest, because it reads half the bytes of bfloat16. With more (the question: hundreds of rows)
unpacking the weights first costs less than that kernel does. bench/memory/text.py shows both
sides."""


_ROWS_AT_ONCE = 1024
"""Weight rows that are quantised together, so that their float32 copies stay small."""


class Int8Linear(nn.Module):
    """Stands in for an `nn.Linear`; its weights are off by at most half a level, max |w| / 254.

    The bias is kept as it is.
    """

    levels: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(dim=1) / 127.0
        scale.clamp_min_(torch.finfo(weight.dtype).tiny)
        levels = torch.empty(weight.shape, dtype=torch.int8)
        parts = (tensor.split(_ROWS_AT_ONCE) for tensor in (weight, scale, levels))
        for rows, row_scale, out in zip(*parts, strict=True):
            # By the scale as it is stored, so that its own rounding costs nothing.
            exact = rows.float() / row_scale.float()[:, None]
            out.copy_(exact.round_().clamp_(-127, 127))
        self.register_buffer("levels", levels)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        scale = self.scale.to(x.dtype)
        if x.device.type == "cpu" and len(rows) <= PACKED_ROWS:
            product = torch._weight_int8pack_mm(rows.contiguous(), self.levels, scale)
        else:
            product = functional.linear(rows, self.levels.to(x.dtype)) * scale
        if self.bias is not None:
            product = product + self.bias
        return product.reshape(*x.shape[:-1], -1)


def quantize_linears(module: nn.Module) -> None:
    """Replace every `nn.Linear` below `module`, one at a time.

    With weights that are mapped from their file, memory grows by the 8-bit ones only.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantize_linears(child)
