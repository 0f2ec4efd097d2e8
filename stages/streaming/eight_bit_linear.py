"""Linear layers that multiply in eight bits: weights rounded beforehand, activations as they come.

    y = (q_x q_w^T) s_x s_w + bias

int8 products are summed up exactly, in 32-bit integers; fp8 products in float32. On a CPU both are
computed plainly: int8 as exactly, fp8 in float32. The sum of int8 products would take twice the
memory of the output, so it is made for so many rows at a time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection

import torch
from torch import nn
from torch.nn.functional import pad

from stages.streaming import fused_rounding
from stages.streaming.eight_bit import DTYPES, Kind, RoundingErrors, rounded

ROWS_AT_ONCE = 4096
"""Of int8's sums: 192 MiB for FLUX's widest layer."""
_LEAST_ROWS = 17
"""cuBLAS multiplies int8 matrices of more than 16 rows."""


class EightBitLinear(nn.Module):
    """Stands where a linear layer was.

    weight  (out, in) of the kind's dtype
    scale   (out,) float32
    bias    (out,) in the computing dtype, or None
    errors  told of the activations while it is watching
    """

    def __init__(self, layer: nn.Linear, kind: Kind, errors: RoundingErrors) -> None:
        """On the device of the layer's weight, and empty: for an empty layer on meta."""
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.kind, self.errors = kind, errors
        where = layer.weight.device
        size = (layer.out_features, layer.in_features)
        self.weight = _empty(torch.empty(size, dtype=DTYPES[kind], device=where))
        self.scale = _empty(torch.empty(size[0], dtype=torch.float32, device=where))
        self.bias = layer.bias

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out) in the dtype of the values."""
        rows = values.reshape(-1, self.in_features)
        if torch.compiler.is_compiling():
            q, scale = rounded(rows, self.kind)
        else:
            q, scale = _LAST.rounded(values, rows, self.kind)
            if self.errors.watching:
                self.errors.add("activations", rows, q, scale)
        multiply = _int8_product if self.kind == "int8" else _fp8_product
        product = multiply(q, scale, self.weight, self.scale, self.bias, values.dtype)
        return product.reshape(*values.shape[:-1], self.out_features)


class _LastRounding:
    """What was rounded last, as long as it is in memory: q, k and v are made of the same tokens."""

    def __init__(self) -> None:
        self._values: Callable[[], torch.Tensor | None] = lambda: None
        self._state: tuple[int, str] = (0, "")
        self._found: tuple[torch.Tensor, torch.Tensor] | None = None

    def rounded(
        self, values: torch.Tensor, rows: torch.Tensor, kind: Kind
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """rows: the values as (tokens, n)."""
        state = (values._version, kind)
        if self._found is None or self._values() is not values or self._state != state:
            self._found, self._state = fused_rounding.rounded_rows(rows, kind), state
            self._values = weakref.ref(values, self._forget)
        return self._found

    def _forget(self, gone: object) -> None:
        if gone is self._values:
            self._found = None


_LAST = _LastRounding()


def replace_linear(
    module: nn.Module, names: Collection[str], kind: Kind, errors: RoundingErrors
) -> None:
    """Put an `EightBitLinear` in the place of each named linear layer of a module."""
    for name in names:
        owner, _, leaf = name.rpartition(".")
        layer = module.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(module.get_submodule(owner), leaf, EightBitLinear(layer, kind, errors))


def _int8_product(
    q: torch.Tensor,
    q_scale: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    if torch.compiler.is_compiling():  # which fuses what is plain, and writes parts to one place
        added = 0.0 if bias is None else bias
        parts = zip(q.split(ROWS_AT_ONCE), q_scale.split(ROWS_AT_ONCE), strict=True)
        return torch.cat(
            [
                (torch._int_mm(part, weight.t()).float() * factors * scale + added).to(dtype)
                for part, factors in parts
            ]
        )
    product = torch.empty((q.shape[0], weight.shape[0]), dtype=dtype, device=q.device)
    for begin in range(0, q.shape[0], ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, q.shape[0] - begin)
        part = q[begin : begin + rows]
        if rows < _LEAST_ROWS and q.is_cuda:
            part = pad(part, (0, 0, 0, _LEAST_ROWS - rows))
        sums = torch._int_mm(part, weight.t())[:rows]
        factors = q_scale[begin : begin + rows]
        fused_rounding.unrounded(sums, factors, scale, bias, product[begin : begin + rows])
    return product


def _fp8_product(
    q: torch.Tensor,
    q_scale: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    if q.is_cuda:
        return torch._scaled_mm(
            q,
            weight.t(),
            scale_a=q_scale,
            scale_b=scale[None],
            bias=None if bias is None else bias.to(torch.bfloat16),
            out_dtype=torch.bfloat16,  # the only one that it has with a scale for each row
            use_fast_accum=True,
        ).to(dtype)
    product = (q.float() @ weight.float().t()) * q_scale * scale
    return (product if bias is None else product + bias.float()).to(dtype)


def _empty(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
