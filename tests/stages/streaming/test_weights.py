"""Weights that change on their way: LoRAs merged, 8-bit storage, files in other dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from devtools.streamed_nets import (
    BUDGETS,
    CPU,
    PLENTY,
    TinyFlux,
    evaluate,
    low_rank,
    open_streamed,
    run,
    save_tiny_flux,
)
from stages.contract import StageError
from stages.streaming.delta import SCRATCH_NUMBERS, LowRankDelta, Merger
from stages.streaming.filling import Filler


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFlux:
    return save_tiny_flux(tmp_path_factory.mktemp("flux"))


def save_in(folder: Path, file_dtype: torch.dtype) -> TinyFlux:
    """A tiny FLUX whose files hold another dtype; the resident nets have the same numbers."""
    other = save_tiny_flux(folder)
    for name in ("transformer", "controlnet"):
        net = getattr(other, name)
        for old in (folder / name).glob("*.safetensors*"):
            old.unlink()
        state = {key: value.to(file_dtype) for key, value in net.state_dict().items()}
        save_file(state, folder / name / "model.safetensors")
        net.load_state_dict({key: value.to(torch.bfloat16) for key, value in state.items()})
    return other


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_a_lora_gives_what_merging_beforehand_gives(
    tiny: TinyFlux, tmp_path: Path, budgets: tuple[int, int]
) -> None:
    deltas = low_rank(tiny.nets())
    merged = save_tiny_flux(tmp_path)
    for name, delta in deltas.items():
        weight = merged.transformer.get_parameter(name).data
        weight.copy_(torch.addmm(weight.float(), delta.up, delta.down))
    wanted = evaluate(merged.transformer, merged.controlnet)
    assert not torch.equal(wanted, evaluate(tiny.transformer, tiny.controlnet))
    nets = tiny.nets(transformer=deltas)
    # What merging needs on the card comes on top.
    work = 4 * SCRATCH_NUMBERS + sum(delta.nbytes for delta in deltas.values())
    with open_streamed(nets, (budgets[0] + work, budgets[1])):
        for _ in range(2):
            assert torch.equal(run(nets), wanted)


def test_merging_by_parts_is_merging_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(37, 16, generator=generator).to(torch.bfloat16)
    delta = LowRankDelta(torch.randn(37, 3), torch.randn(3, 16))
    wanted = (weight.double() + delta.up.double() @ delta.down.double()).float()
    monkeypatch.setattr("stages.streaming.delta.SCRATCH_NUMBERS", 5 * 16)
    Merger(CPU, 16).merge(weight, delta)
    # bfloat16 has 8 bits of mantissa: half a unit is 2**-9 of the value.
    assert torch.allclose(weight.float(), wanted, rtol=2**-8, atol=1e-6)


def test_merging_is_the_same_whether_the_process_allows_tf32_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only a card computes in TF32. Jobs allow it, loading does not, and both merge."""
    seen = []
    addmm_ = torch.Tensor.addmm_

    def watched(self: torch.Tensor, *matrices: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return addmm_(self, *matrices)

    monkeypatch.setattr(torch.Tensor, "addmm_", watched)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        Merger(CPU, 4).merge(torch.zeros(2, 4), LowRankDelta(torch.ones(2, 1), torch.ones(1, 4)))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_fp8_storage_is_a_plain_cast_of_linear_layers_outside_of_norms(
    tiny: TinyFlux, tmp_path: Path, budgets: tuple[int, int]
) -> None:
    rounded = save_tiny_flux(tmp_path)
    for net in (rounded.transformer, rounded.controlnet):
        for stack in (net.transformer_blocks, net.single_transformer_blocks):
            for name, module in stack.named_modules():
                if isinstance(module, torch.nn.Linear) and "norm" not in name:
                    for parameter in module.parameters():
                        parameter.data.copy_(parameter.data.to(torch.float8_e4m3fn))
    wanted = evaluate(rounded.transformer, rounded.controlnet)
    nets = tiny.nets()
    with open_streamed(nets, (budgets[0] + 20_000, budgets[1]), storage="fp8"):
        for _ in range(2):
            assert torch.equal(run(nets), wanted)


def test_fp8_storage_halves_the_bytes_on_the_link(tiny: TinyFlux) -> None:
    full, small = tiny.nets(), tiny.nets()
    with (
        open_streamed(full, (300_000, PLENTY)) as a,
        open_streamed(small, (300_000, PLENTY), storage="fp8") as b,
    ):
        assert b.plan.link_bytes < 0.75 * a.plan.link_bytes  # a third is in norms


@pytest.mark.parametrize("file_dtype", [torch.float32, torch.float16, torch.float8_e4m3fn])
@pytest.mark.parametrize("budgets", [(PLENTY, 0), (500_000, PLENTY), (500_000, 300_000)])
def test_files_in_other_dtypes_are_cast(
    tiny: TinyFlux, tmp_path: Path, file_dtype: torch.dtype, budgets: tuple[int, int]
) -> None:
    other = save_in(tmp_path, file_dtype)
    nets = other.nets()
    with open_streamed(nets, budgets):
        assert torch.equal(run(nets), evaluate(other.transformer, other.controlnet))


def test_a_delta_that_fits_nothing_is_refused(tiny: TinyFlux) -> None:
    delta = LowRankDelta(torch.zeros(3, 1), torch.zeros(1, 3))
    with pytest.raises(StageError, match="does not fit"):
        open_streamed(tiny.nets(transformer={"x_embedder.weight": delta}))
    with pytest.raises(ValueError, match="no low-rank pair"):
        LowRankDelta(torch.zeros(3, 1), torch.zeros(2, 3))


def test_float8_files_need_no_finishing_in_host_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are kept as they are and cast in the slot: nothing passes through the card."""
    other = save_in(tmp_path, torch.float8_e4m3fn)
    finished: list[str] = []
    from_file = Filler.from_file

    def counted(self: Filler, layout: Any, *arguments: Any) -> None:
        finished.append(layout.tensors[0].name)
        from_file(self, layout, *arguments)

    monkeypatch.setattr(Filler, "from_file", counted)
    nets = other.nets()
    with open_streamed(nets, (500_000, PLENTY), enter_card=False) as streamed:
        assert "host" in streamed.plan.tiers
        assert not finished
        streamed.enter_card()
        assert torch.equal(run(nets), evaluate(other.transformer, other.controlnet))
