"""Blocks that run by code compiled for one of them: the same function of each block's numbers.

The compiler's front end is what can go wrong here, so most tests leave its code generator out,
which then gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devtools.streamed_nets import (
    PLENTY,
    TinyFlux,
    embedding,
    evaluate,
    open_streamed,
    save_tiny_flux,
)
from stages.flux.blocks import FLUX_BLOCKS, FLUX_ONCE
from stages.models.compiled_blocks import CompiledBlocks
from stages.streaming import eight_bit

SLOW = pytest.mark.slow
"""Of the streamed nets one is quick: that of which most changes from call to call."""
HOST_TOO = (300_000, 300_000)
WORK = 4 * eight_bit.SCRATCH_NUMBERS


@pytest.fixture(autouse=True)
def forget_what_was_compiled() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux")
    save_tiny_flux(folder)
    return folder


@pytest.fixture
def tiny(saved: Path) -> TinyFlux:
    """Nets of its own for each test, since their blocks are changed."""
    return save_tiny_flux(saved)


def test_whole_nets_give_what_they_gave(tiny: TinyFlux) -> None:
    wanted = evaluate(tiny.transformer, tiny.controlnet)
    blocks = CompiledBlocks([tiny.transformer, tiny.controlnet], FLUX_BLOCKS, "eager")
    with blocks.running(None):
        blocks.active = True
        for _ in range(2):
            assert torch.equal(evaluate(tiny.transformer, tiny.controlnet), wanted)
    assert blocks.why_not == ""
    assert blocks.seconds > 0.0


def test_each_block_computes_with_its_own_numbers_of_the_moment(tiny: TinyFlux) -> None:
    """Not with those that were there when it was compiled."""
    blocks = CompiledBlocks([tiny.transformer], FLUX_BLOCKS, "eager")
    with blocks.running(None):
        blocks.active = True
        before = evaluate(tiny.transformer)
        for block in tiny.transformer.single_transformer_blocks:
            other = nn.Parameter(block.proj_out.weight * 2.0, requires_grad=False)
            block.proj_out.weight = other
        compiled = evaluate(tiny.transformer)
    blocks.active = False
    assert not torch.equal(compiled, before)
    assert torch.equal(evaluate(tiny.transformer), compiled)


@pytest.mark.parametrize(
    "budgets",
    [pytest.param((PLENTY, 0), id="card", marks=SLOW), pytest.param(HOST_TOO, id="host too")],
)
@pytest.mark.parametrize("kind", [pytest.param(None, marks=SLOW), "int8"])
def test_streamed_blocks_compute_with_what_they_are_lent(
    tiny: TinyFlux, budgets: tuple[int, int], kind: Any
) -> None:
    """Modulation comes from tables, for a noise level at a time: another level is not compiled for
    again, and gives its own result."""
    nets = {name: replace(net, once=FLUX_ONCE) for name, net in tiny.nets().items()}
    vram = budgets[0] + (WORK if kind else 0)
    with open_streamed(
        nets, (vram, budgets[1]), kind=kind, enter_card=False, embeddings=2
    ) as streamed:
        modules = [net.module for net in nets.values()]
        blocks = CompiledBlocks(modules, FLUX_BLOCKS, "eager")
        streamed.enter_card(lambda name: [embedding(nets[name].module, t) for t in (0.5, 0.25)])
        transformer, controlnet = nets["transformer"].module, nets["controlnet"].module

        def results() -> list[torch.Tensor]:
            found = []
            for level, time in enumerate((0.5, 0.25)):
                streamed.choose(level)
                found.append(evaluate(transformer, controlnet, time=time))
            return found

        wanted = results()
        assert not torch.equal(*wanted)
        with blocks.running(None):
            blocks.active = True
            first = results()
            compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            again = results()
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
        for one, two, three in zip(wanted, first, again, strict=True):
            assert torch.equal(one, two)
            assert torch.equal(one, three)
        assert blocks.why_not == ""
        assert streamed.stats.surprises == 0


def test_inactive_blocks_run_as_ever(tiny: TinyFlux) -> None:
    wanted = evaluate(tiny.transformer, tiny.controlnet)
    blocks = CompiledBlocks([tiny.transformer, tiny.controlnet], FLUX_BLOCKS)
    with blocks.running(None):
        assert torch.equal(evaluate(tiny.transformer, tiny.controlnet), wanted)
    assert (blocks.seconds, blocks.why_not) == (0.0, "")


def test_a_compiler_that_fails_is_told_of_and_the_blocks_run_as_ever(tiny: TinyFlux) -> None:
    def broken(_graph: Any, _inputs: Any) -> Any:
        raise FileNotFoundError("no C compiler, and\nmuch more")

    wanted = evaluate(tiny.transformer, tiny.controlnet)
    blocks = CompiledBlocks([tiny.transformer, tiny.controlnet], FLUX_BLOCKS, broken)
    with blocks.running(None):
        blocks.active = True
        for _ in range(2):
            assert torch.equal(evaluate(tiny.transformer, tiny.controlnet), wanted)
    assert "no C compiler" in blocks.why_not
    assert "\n" not in blocks.why_not


def test_memory_that_runs_out_is_no_failure_of_the_compiler(tiny: TinyFlux) -> None:
    """The ladder's next rung is for that."""
    blocks = CompiledBlocks([tiny.transformer], FLUX_BLOCKS, "eager")

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    for kind in blocks._kinds:
        kind.compiled = full
    with blocks.running(None):
        blocks.active = True
        with pytest.raises(torch.OutOfMemoryError):
            evaluate(tiny.transformer)
    assert blocks.why_not == ""


def test_what_is_compiled_is_kept_where_it_is_told(tmp_path: Path) -> None:
    """Only the settings: compiling for a CPU takes minutes here, and is tried on a card."""
    import os

    blocks = CompiledBlocks([], ())
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with blocks.running(tmp_path):
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        assert cache_dir() == str(tmp_path / "inductor")
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


@pytest.mark.slow
def test_the_whole_compiler_gives_nearly_the_same(tiny: TinyFlux, tmp_path: Path) -> None:
    wanted = evaluate(tiny.transformer).float()
    blocks = CompiledBlocks([tiny.transformer], FLUX_BLOCKS)
    with blocks.running(tmp_path):
        blocks.active = True
        found = evaluate(tiny.transformer).float()
    assert blocks.why_not == ""
    assert any(tmp_path.rglob("*.py"))
    assert float((found - wanted).norm() / wanted.norm()) < 0.02  # 0.007; a lost block is above 0.1
