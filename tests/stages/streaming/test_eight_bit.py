"""Numbers in eight bits, layers that multiply so, and blocks that stream so."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from devtools.streamed_nets import (
    BUDGETS,
    CPU,
    PLENTY,
    TinyFlux,
    evaluate,
    open_streamed,
    run,
    save_tiny_flux,
)
from stages.streaming import eight_bit, eight_bit_linear
from stages.streaming.eight_bit import TOP, RoundingErrors, WeightRounder, rounded
from stages.streaming.eight_bit_linear import EightBitLinear

KINDS = ["int8", "fp8"]
STEP = {"int8": 0.5 / 127.0, "fp8": 2.0**-4}
"""The most by which rounding is off: half of a 127th of a row's largest number; half of a number's
last bit of three."""
WORK = 4 * eight_bit.SCRATCH_NUMBERS + 40_000


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def eight_bit_layer(layer: nn.Linear, kind: Any) -> EightBitLinear:
    found = EightBitLinear(layer, kind, RoundingErrors())
    q, scale = rounded(layer.weight, kind)
    found.weight.copy_(q)
    found.scale.copy_(scale[:, 0])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_off_by_half_a_step_of_its_row_at_most(kind: Any) -> None:
    rows = numbers(20, 50) * torch.logspace(-20, 20, 20)[:, None]
    q, scale = rounded(rows, kind)
    off = (q.float() * scale - rows).abs()
    largest = rows.abs() if kind == "fp8" else rows.abs().amax(dim=1, keepdim=True)
    finest = scale * 2.0**-10  # below float8's smallest normal number
    assert bool((off <= 1.01 * STEP[kind] * largest + finest).all())
    assert float(q.float().abs().max()) == TOP[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_zeros_stays_zero(kind: Any) -> None:
    q, scale = rounded(torch.zeros(2, 3), kind)
    assert not bool((q.float() * scale).any())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_hidden(kind: Any, bad: float) -> None:
    """A layer's output is NaN in that row, and in no other."""
    values = numbers(3, 32)
    values[1, 4] = bad
    found = eight_bit_layer(nn.Linear(32, 16).requires_grad_(False), kind)(values)
    assert bool(found[1].isnan().all())
    assert bool(found[[0, 2]].isfinite().all())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_rounded_in_parts_are_those_rounded_at_once(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    weight = numbers(37, 16).to(torch.bfloat16)
    q, scale = rounded(weight, kind)
    monkeypatch.setattr(eight_bit, "SCRATCH_NUMBERS", 5 * 16)
    parts = torch.empty_like(q), torch.empty(37)
    WeightRounder(CPU, kind, 16).round(weight, *parts)
    assert torch.equal(parts[0].float(), q.float())
    assert torch.equal(parts[1], scale[:, 0])


@pytest.mark.parametrize("rows", [1, 16, 17, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_int8_products_are_exact(monkeypatch: pytest.MonkeyPatch, rows: int, bias: bool) -> None:
    """To float32's rounding of the factors, also where the sum passes 2**24."""
    monkeypatch.setattr(eight_bit_linear, "ROWS_AT_ONCE", 32)
    plain = nn.Linear(4096, 24, bias=bias).requires_grad_(False)
    plain.weight.fill_(1.0)
    plain.weight[:, 0] = 0.5
    layer = eight_bit_layer(plain, "int8")
    values = numbers(rows, 4096).abs() + 3.0
    q, s = rounded(values, "int8")
    wanted = (q.double() @ layer.weight.double().t()) * s.double() * layer.scale.double()
    if bias:
        wanted += plain.bias.double()
    torch.testing.assert_close(layer(values).double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_near_the_plain_one_whatever_its_inputs_shape(kind: Any) -> None:
    plain = nn.Linear(64, 48).requires_grad_(False)
    layer = eight_bit_layer(plain, kind)
    values = numbers(2, 5, 64)
    found, wanted = layer(values), plain(values)
    assert found.shape == wanted.shape
    assert float((found - wanted).norm() / wanted.norm()) < {"int8": 0.02, "fp8": 0.06}[kind]


def test_tokens_that_change_in_place_are_rounded_anew() -> None:
    """What was rounded last is kept for the next layer, as q, k and v are made of the same."""
    layer = eight_bit_layer(nn.Linear(32, 16).requires_grad_(False), "int8")
    values = numbers(4, 32)
    before = layer(values)
    assert torch.equal(layer(values), before)
    values.mul_(2.0)
    after = layer(values)
    assert torch.equal(after, layer(values.clone()))
    assert not torch.allclose(after, before)


def test_what_was_rounded_last_is_gone_with_its_tokens() -> None:
    layer = eight_bit_layer(nn.Linear(32, 16).requires_grad_(False), "int8")
    values = numbers(4, 32)
    layer(values)
    assert eight_bit_linear._LAST._found is not None
    del values
    assert eight_bit_linear._LAST._found is None


def test_errors_are_measured_only_while_watching() -> None:
    errors = RoundingErrors()
    layer = eight_bit_layer(nn.Linear(64, 64).requires_grad_(False), "int8")
    layer.errors = errors
    layer(numbers(300, 64))
    assert errors.share("activations") == 0.0
    errors.watching = True
    layer(numbers(300, 64))
    assert 0.003 < errors.share("activations") < 0.02  # 0.007 of normal deviates
    errors.forget("activations")
    assert errors.share("activations") == 0.0


def test_tritons_kernels_do_what_plain_operators_do() -> None:
    """In Triton's interpreter, which has to be asked for before Triton is imported, and has no
    float8 as cards have it: that is tested on a card."""
    pytest.importorskip("triton")
    asked = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _INTERPRETED], env=asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("capability", [75, 86, 89, 90])
def test_tritons_kernels_compile_for_cards(capability: int) -> None:
    """Down to their machine code, which needs no card."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from stages.streaming.triton_rounding import _round_kernel, _unround_kernel

    q = {"int8": "*i8"} | ({"fp8": "*fp8e4nv"} if capability >= 89 else {})
    numbers = {"scale": "*fp32", "columns": "i32"}
    sources = [
        ASTSource(
            _round_kernel,
            {"values": "*bf16", "q": dtype, **numbers}
            | dict.fromkeys(("top", "whole", "width"), "constexpr"),
            {(4,): TOP[kind], (5,): kind == "int8", (6,): 4096},
        )
        for kind, dtype in q.items()
    ]
    sources.append(
        ASTSource(
            _unround_kernel,
            {"sums": "*i32", "q_scale": "*fp32", "scale": "*fp32", "bias": "*bf16"}
            | {"out": "*bf16", "columns": "i32", "has_bias": "constexpr", "width": "constexpr"},
            {(6,): True, (7,): 1024},
        )
    )
    for source in sources:
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert made.asm["ptx"]


_INTERPRETED = """
import torch
from stages.streaming.eight_bit import rounded
from stages.streaming.triton_rounding import round_rows, unround_rows

kind = "int8"
values = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
values[3] = 0.0
wanted, scales = rounded(values, kind)
q, s = round_rows(values, kind)
torch.testing.assert_close(s, scales, rtol=1e-6, atol=0.0)
off, plain = ((rows.float() * scales - values).norm() for rows in (q, wanted))
assert abs(off - plain) < 0.03 * plain, (off, plain)  # a tie may be rounded to the other side
values[2, 7], values[4, 9] = float("nan"), float("inf")
nan = round_rows(values, kind)[1].isnan()[:, 0].tolist()
assert nan == [False, False, True, False, True], nan

sums = torch.randint(-100_000_000, 100_000_000, (5, 1100), dtype=torch.int32)
scale, bias = torch.rand(1100), torch.randn(1100)
for added in (bias, None):
    out = torch.empty(5, 1100)
    unround_rows(sums, scales, scale, added, out)
    expected = sums.float() * scales * scale + (0.0 if added is None else added)
    torch.testing.assert_close(out, expected)
"""


# --- streamed -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFlux:
    return save_tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bits_give_the_same_in_every_tier(tiny: TinyFlux, kind: Any) -> None:
    exact = evaluate(tiny.transformer, tiny.controlnet).float()
    found = []
    tiers = set()
    for vram, host in [*BUDGETS.values(), (230_000, 100_000)]:
        nets = tiny.nets()
        with open_streamed(nets, (vram + WORK, host), kind=kind) as streamed:
            tiers |= set(streamed.plan.tiers)
            found += [run(nets), run(nets)]
            assert 0.001 < streamed.errors.share("weights") < 0.04  # 0.006, 0.025
    assert tiers == {"card", "host", "file"}
    assert all(torch.equal(one, found[0]) for one in found)
    error = float((found[0].float() - exact).norm() / exact.norm())
    assert 0.005 < error < {"int8": 0.03, "fp8": 0.08}[kind]  # 0.014, 0.039


def test_eight_bits_halve_blocks_on_the_card_and_on_the_link(tiny: TinyFlux) -> None:
    full, small = tiny.nets(), tiny.nets()
    with (
        open_streamed(full, (300_000, PLENTY)) as a,
        open_streamed(small, (240_000 + WORK, PLENTY), kind="int8") as b,
    ):
        # A third is in norms, and scales and biases count for much in layers so small.
        assert b.plan.slot_bytes < 0.8 * a.plan.slot_bytes
        assert b.plan.count("card") >= a.plan.count("card")


def test_layers_in_norms_and_around_blocks_stay_plain(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    with open_streamed(nets, (PLENTY, PLENTY), kind="int8"):
        for net in nets.values():
            for name, module in net.module.named_modules():
                inside = "transformer_blocks" in name and "norm" not in name
                assert not (isinstance(module, nn.Linear) and inside), name
                assert not (isinstance(module, EightBitLinear) and not inside), name
