"""Multiplying in eight bits on a card: the fused kernels, the products, and streamed blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devtools.streamed_nets import evaluate, save_tiny_flux
from stages.flux.eight_bit_choice import LEAST_CAPABILITY
from stages.streaming import eight_bit, fused_rounding
from stages.streaming.eight_bit import RoundingErrors, rounded
from stages.streaming.eight_bit_linear import EightBitLinear
from stages.streaming.models import stream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda:0")
WORK = 4 * eight_bit.SCRATCH_NUMBERS + 40_000


@pytest.fixture(params=["int8", "fp8"])
def kind(request: pytest.FixtureRequest) -> Any:
    if torch.cuda.get_device_capability() < LEAST_CAPABILITY[request.param]:
        pytest.skip(f"this card has no {request.param}")
    return request.param


@pytest.mark.parametrize("columns", [64, 3072, 15360])
def test_fused_rounding_is_the_plain_one(kind: Any, columns: int) -> None:
    values = torch.randn(33, columns, device=CUDA).to(torch.bfloat16)
    values[5] = 0.0
    q, scale = fused_rounding.rounded_rows(values, kind)
    assert fused_rounding.why_plain() == ""
    wanted, scales = rounded(values, kind)
    torch.testing.assert_close(scale, scales, rtol=1e-6, atol=0.0)
    differ = float((q.float() != wanted.float()).float().mean())
    assert differ < 0.02  # a division may differ in its last bit, and so which way a tie is rounded
    off = (q.float() * scale - values.float()).norm()
    plain = (wanted.float() * scales - values.float()).norm()
    assert float((off - plain).abs()) < 0.01 * float(plain)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(kind: Any, bad: float) -> None:
    values = torch.randn(20, 64, device=CUDA, dtype=torch.bfloat16)
    values[7, 3] = bad
    scale = fused_rounding.rounded_rows(values, kind)[1]
    assert scale.isnan()[:, 0].nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("rows", [1, 16, 17, 1241, 9433])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_rounded_numbers(kind: Any, rows: int, bias: bool) -> None:
    plain = nn.Linear(256, 144, bias=bias, device=CUDA, dtype=torch.bfloat16).requires_grad_(False)
    layer = EightBitLinear(plain, kind, RoundingErrors())
    q, scale = rounded(plain.weight, kind)
    layer.weight.copy_(q)
    layer.scale.copy_(scale[:, 0])
    values = torch.randn(rows, 256, device=CUDA, dtype=torch.bfloat16)
    a, s = fused_rounding.rounded_rows(values, kind)
    wanted = (a.double() * s.double()) @ (q.double() * scale.double()).t()
    if bias:
        wanted += plain.bias.double()
    found = layer(values).double()
    assert float((found - wanted).norm() / wanted.norm()) < 0.01  # bfloat16: 0.002


def test_streamed_blocks_give_the_same_in_every_tier(tmp_path: Path, kind: Any) -> None:
    tiny = save_tiny_flux(tmp_path)
    tiny.transformer.to(CUDA)
    tiny.controlnet.to(CUDA)
    exact = evaluate(tiny.transformer, tiny.controlnet, CUDA).float()
    found = []
    for vram, host in [(2**30, 0), (300_000, 2**30), (230_000, 100_000)]:
        nets = tiny.nets()
        with stream(
            nets,
            vram_bytes=vram + WORK,
            host_bytes=host,
            device=CUDA,
            dtype=torch.bfloat16,
            kind=kind,
        ):
            for _ in range(10):
                found.append(evaluate(nets["transformer"].module, nets["controlnet"].module, CUDA))
    assert all(torch.equal(one, found[0]) for one in found)
    error = float((found[0].float() - exact).norm() / exact.norm())
    assert 0.002 < error < {"int8": 0.03, "fp8": 0.08}[kind]
