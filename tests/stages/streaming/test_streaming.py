"""Streamed networks give what resident ones give, to the bit, and never hang or leak."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from devtools.patience import PATIENCE
from devtools.streamed_nets import (
    BUDGETS,
    PLENTY,
    T5_BLOCKS,
    TinyFlux,
    evaluate,
    open_streamed,
    run,
    save_tiny_flux,
)
from stages.contract import StageError
from stages.flux.blocks import CONTROLNET_BLOCKS
from stages.streaming import pinned
from stages.streaming.models import make_blocks, plan_streaming
from stages.streaming.net import Net
from stages.streaming.pinned import HostBuffer
from stages.streaming.reader import _Files
from stages.streaming.source import open_tensors


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFlux:
    return save_tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_output_is_bit_identical_to_resident(tiny: TinyFlux, budgets: tuple[int, int]) -> None:
    nets = tiny.nets()
    with open_streamed(nets, budgets):
        for _ in range(2):
            assert torch.equal(run(nets), evaluate(tiny.transformer, tiny.controlnet))


def test_budgets_give_the_tiers_that_they_name(tiny: TinyFlux) -> None:
    tiers = {}
    for name, (vram, host) in BUDGETS.items():
        nets = tiny.nets()
        blocks = [b for k, net in nets.items() for b in make_blocks(k, net, torch.bfloat16)]
        tiers[name] = set(plan_streaming(nets, blocks, torch.bfloat16, vram, host).tiers)
    assert list(tiers.values()) == [
        {"card"},
        {"card", "host"},
        {"host"},
        {"card", "host", "file"},
        {"host", "file"},
        {"file"},
    ]


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_a_controlnet_that_is_left_out_and_comes_back_changes_nothing(
    tiny: TinyFlux, budgets: tuple[int, int]
) -> None:
    nets = tiny.nets()
    wanted = {
        True: evaluate(tiny.transformer, tiny.controlnet),
        False: evaluate(tiny.transformer),
    }
    with open_streamed(nets, budgets) as streamed:
        for with_control in (True, False, False, True, False, True, True):
            assert torch.equal(run(nets, with_control), wanted[with_control])
        assert streamed.stats.surprises <= 5


def test_the_controlnets_projections_can_stream_too(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    nets["controlnet"] = replace(nets["controlnet"], block_lists=CONTROLNET_BLOCKS)
    with open_streamed(nets):
        for with_control in (True, False, True):
            control = tiny.controlnet if with_control else None
            assert torch.equal(run(nets, with_control), evaluate(tiny.transformer, control))


def test_a_told_order_brings_no_surprise(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    with open_streamed(nets) as streamed:
        for _ in range(2):
            run(nets)
        streamed.expect("transformer")
        for _ in range(2):
            run(nets, with_control=False)
        assert streamed.stats.surprises == 0


def test_a_wrongly_told_order_costs_no_more_than_time(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    with open_streamed(nets) as streamed:
        streamed.expect("transformer")
        assert torch.equal(run(nets), evaluate(tiny.transformer, tiny.controlnet))
        assert streamed.stats.surprises > 0


def test_blocks_run_in_any_order(tiny: TinyFlux) -> None:
    """Each block by itself, backwards and twice: its own weights, whatever was predicted."""
    nets = tiny.nets()
    blocks = nets["transformer"].module.single_transformer_blocks
    with open_streamed(nets):
        for number in (3, 1, 1, 2, 0, 3):
            wanted = run_block(tiny.transformer.single_transformer_blocks[number])
            assert torch.equal(run_block(blocks[number]), wanted)


@torch.no_grad()
def run_block(block: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    image, text, time = (
        torch.randn(shape, generator=generator).to(torch.bfloat16)
        for shape in ((1, 4, 32), (1, 2, 32), (1, 32))
    )
    return torch.cat(block(image, text, time), dim=1)


def test_weights_cannot_be_read_while_their_block_does_not_run(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    with open_streamed(nets, BUDGETS["none on the card, all pinned"]):
        run(nets)
        blocks = nets["transformer"].module.transformer_blocks
        assert all(parameter.is_meta for parameter in blocks.parameters())


def test_bytes_on_the_links_are_those_of_the_plan(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    with open_streamed(nets) as streamed:
        run(nets)
        before = streamed.stats
        for _ in range(3):
            run(nets)
        after, plan = streamed.stats, streamed.plan
        # Between evaluations the slots and the ring hold what comes next, as far as it has come.
        slack = (plan.slots * plan.slot_bytes, plan.slots * plan.slot_bytes + plan.ring_bytes)
        assert abs(after.link_bytes - before.link_bytes - 3 * plan.link_bytes) <= slack[0]
        assert abs(after.file_bytes - before.file_bytes - 3 * plan.file_bytes) <= slack[1]


def test_t5_blocks_stream_and_what_they_share_stays(tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=3,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    torch.manual_seed(0)
    resident = T5EncoderModel(config).eval()
    resident.save_pretrained(tmp_path)
    with torch.device("meta"):
        module = T5EncoderModel(config).eval()
    nets = {"t5": Net(module, open_tensors(tmp_path), T5_BLOCKS)}
    tokens = torch.tensor([[3, 5, 7, 1]])
    with torch.no_grad():
        wanted = resident(tokens)[0]
        with open_streamed(nets, (26_000, 12_000), dtype=torch.float32) as streamed:
            assert "file" in streamed.plan.tiers
            for _ in range(2):
                assert torch.equal(module(tokens)[0], wanted)


def test_a_file_truncated_while_it_is_used_ends_the_evaluation_with_its_name(
    tiny: TinyFlux, tmp_path: Path
) -> None:
    own = save_tiny_flux(tmp_path)
    nets = own.nets()
    streamed = open_streamed(nets, BUDGETS["file, one block in the ring"])
    try:
        run(nets)
        for path in (tmp_path / "transformer").glob("*.safetensors"):
            with path.open("r+b") as file:
                file.truncate(200)
        with pytest.raises(StageError, match=r"\.safetensors end at byte") as raised:
            run(nets)
        assert raised.value.kind == "missing_weights"
        # And again: an error is told each time, it does not turn into a wait.
        with pytest.raises(StageError, match=r"\.safetensors end at byte"):
            run(nets)
    finally:
        streamed.close()


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_an_exception_inside_a_block_leaves_the_streamer_usable(
    tiny: TinyFlux, budgets: tuple[int, int]
) -> None:
    nets = tiny.nets()
    block = nets["transformer"].module.single_transformer_blocks[1]

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    with open_streamed(nets, budgets):
        handle = block.proj_mlp.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            run(nets)
        handle.remove()
        assert torch.equal(run(nets), evaluate(tiny.transformer, tiny.controlnet))


def test_closing_gives_the_memory_back_and_twice_is_once(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    streamed = open_streamed(nets)
    run(nets)
    streamed.close()
    moved = streamed.stats.link_bytes
    streamed.close()
    assert streamed.stats.link_bytes == moved > 0
    assert all(p.is_meta for net in nets.values() for p in net.module.parameters())
    with pytest.raises((RuntimeError, NotImplementedError)):
        run(nets)


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_the_card_can_be_left_and_entered_again(tiny: TinyFlux, budgets: tuple[int, int]) -> None:
    nets = tiny.nets()
    wanted = evaluate(tiny.transformer, tiny.controlnet)
    with open_streamed(nets, budgets, enter_card=False) as streamed:
        for _ in range(2):
            assert all(p.is_meta for net in nets.values() for p in net.module.parameters())
            streamed.enter_card()
            assert torch.equal(run(nets), wanted)
            streamed.leave_card()


def test_close_in_the_middle_of_an_evaluation(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    streamed = open_streamed(nets, BUDGETS["pinned and file"])
    block = nets["transformer"].module.transformer_blocks[1]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    block.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(nets)
    streamed.close()


def test_too_small_a_budget_says_how_much_is_needed(tiny: TinyFlux) -> None:
    with pytest.raises(StageError, match=r"at least .* of card memory") as raised:
        open_streamed(tiny.nets(), (100_000, PLENTY))
    assert raised.value.kind == "out_of_memory"
    with pytest.raises(StageError, match=r"at least .* of host memory"):
        open_streamed(tiny.nets(), (290_000, 1_000))


def test_files_of_another_model_are_refused_before_anything_is_loaded(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    swapped = Net(nets["transformer"].module, nets["controlnet"].tensors, ("transformer_blocks",))
    with pytest.raises(StageError, match=r"does not fit.*FluxTransformer2DModel needs") as caught:
        open_streamed({"transformer": swapped})
    assert caught.value.kind == "missing_weights"


def test_nothing_keeps_the_host_memory_alive_after_close(tiny: TinyFlux) -> None:
    nets = tiny.nets()
    streamed = open_streamed(nets)
    pages = weakref.ref(streamed.host.view().obj)
    run(nets)
    streamed.close()
    gc.collect()
    assert pages() is None


def test_after_a_failed_read_no_thread_writes_to_the_memory_that_is_given_back(
    tiny: TinyFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file cannot be read while others still are: they end before the pages go."""
    reading, given_back = threading.Event(), threading.Event()
    late: list[str] = []
    read = _Files.read

    calls = count()

    def slow_or_broken(self: _Files, path: Path, offset: int, target: memoryview) -> None:
        if next(calls) == 0:
            reading.wait(PATIENCE)
            raise StageError("missing_weights", "broken on purpose", "")
        reading.set()
        given_back.wait(0.5)
        if given_back.is_set():
            late.append(path.name)
        read(self, path, offset, target)

    close = HostBuffer.close

    def close_and_tell(self: HostBuffer) -> None:
        given_back.set()
        close(self)

    monkeypatch.setattr(_Files, "read", slow_or_broken)
    monkeypatch.setattr(HostBuffer, "close", close_and_tell)
    # What surrounds the blocks is read later; until then every read is for the host tier.
    with pytest.raises(StageError, match="broken on purpose"):
        open_streamed(tiny.nets(), (290_000, PLENTY), enter_card=False)
    assert reading.is_set()
    assert given_back.is_set()
    assert not late


def test_a_refused_registration_is_a_note_and_no_error_of_the_next_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA keeps the error of a refused call until a launch asks for it, as here."""
    runtime = RefusingRuntime()
    monkeypatch.setattr(pinned, "_cudart", lambda: runtime)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: runtime.launch())
    buffer = HostBuffer(1000)
    buffer.register()
    assert not buffer.registered
    assert "could not be registered (CUDA error 2)" in buffer.note
    runtime.launch()
    buffer.close()


class RefusingRuntime:
    """A CUDA runtime that registers nothing."""

    kept = 0

    def cudaHostRegister(self, *_: int) -> int:  # noqa: N802 (CUDA's name)
        self.kept = 2
        return self.kept

    def launch(self) -> None:
        error, self.kept = self.kept, 0
        if error:
            raise RuntimeError("CUDA error: out of memory")
