"""The streamer on a card: the same bits as resident, pinned memory, and all of it given back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from devtools.streamed_nets import TinyFlux, embedding, evaluate, low_rank, save_tiny_flux
from stages.flux.blocks import FLUX_ONCE
from stages.streaming.delta import SCRATCH_NUMBERS, Merger
from stages.streaming.models import stream
from stages.streaming.pinned import HostBuffer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda:0")
BUDGETS = [(2**30, 0), (450_000, 2**30), (290_000, 2**30), (400_000, 290_000), (290_000, 79_000)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFlux:
    tiny = save_tiny_flux(tmp_path_factory.mktemp("flux"))
    tiny.transformer.to(CUDA)
    tiny.controlnet.to(CUDA)
    return tiny


@pytest.mark.parametrize("budgets", BUDGETS)
def test_output_is_bit_identical_to_resident(tiny: TinyFlux, budgets: tuple[int, int]) -> None:
    wanted = evaluate(tiny.transformer, tiny.controlnet, CUDA)
    nets = tiny.nets()
    vram, host = budgets
    with stream(
        nets, vram_bytes=vram, host_bytes=host, device=CUDA, dtype=torch.bfloat16
    ) as streamed:
        # Many evaluations without a pause: copies and computing get every chance to collide.
        outputs = [
            evaluate(nets["transformer"].module, nets["controlnet"].module, CUDA) for _ in range(20)
        ]
        assert all(torch.equal(output, wanted) for output in outputs)
        assert streamed.note == ""


@pytest.mark.parametrize("budgets", BUDGETS)
def test_a_lora_gives_what_merging_beforehand_gives(
    tiny: TinyFlux, budgets: tuple[int, int]
) -> None:
    nets = tiny.nets()
    deltas = low_rank(nets)
    before = {name: tiny.transformer.get_parameter(name).data.clone() for name in deltas}
    merger = Merger(CUDA, 128)
    for name, delta in deltas.items():
        merger.merge(tiny.transformer.get_parameter(name).data, delta.to(CUDA))
    wanted = evaluate(tiny.transformer, tiny.controlnet, CUDA)
    for name, weight in before.items():
        tiny.transformer.get_parameter(name).data.copy_(weight)
    nets = tiny.nets(transformer=deltas)
    work = 4 * SCRATCH_NUMBERS + sum(delta.nbytes for delta in deltas.values())
    vram, host = budgets
    with stream(nets, vram_bytes=vram + work, host_bytes=host, device=CUDA, dtype=torch.bfloat16):
        for _ in range(5):
            got = evaluate(nets["transformer"].module, nets["controlnet"].module, CUDA)
            assert torch.equal(got, wanted)


def test_closing_gives_the_card_its_memory_back(tiny: TinyFlux) -> None:
    evaluate(tiny.transformer, tiny.controlnet, CUDA)  # the libraries' own work space
    before = torch.cuda.memory_allocated(CUDA)
    nets = tiny.nets()
    with stream(nets, vram_bytes=400_000, host_bytes=290_000, device=CUDA, dtype=torch.bfloat16):
        evaluate(nets["transformer"].module, nets["controlnet"].module, CUDA)
        assert torch.cuda.memory_allocated(CUDA) > before
    assert torch.cuda.memory_allocated(CUDA) <= before


def test_leaving_the_card_gives_its_memory_back_and_keeps_the_hosts(tiny: TinyFlux) -> None:
    wanted = evaluate(tiny.transformer, tiny.controlnet, CUDA)
    nets = tiny.nets()
    before = torch.cuda.memory_allocated(CUDA)
    with stream(
        nets,
        vram_bytes=400_000,
        host_bytes=290_000,
        device=CUDA,
        dtype=torch.bfloat16,
        enter_card=False,
    ) as streamed:
        for _ in range(3):
            assert torch.cuda.memory_allocated(CUDA) == before
            streamed.enter_card()
            output = evaluate(nets["transformer"].module, nets["controlnet"].module, CUDA)
            assert torch.equal(output, wanted)
            del output
            streamed.leave_card()


@pytest.mark.parametrize("budgets", [(2**30, 0), (290_000, 2**30), (290_000, 60_000)])
def test_layers_computed_once_give_the_residents_bits(
    tiny: TinyFlux, budgets: tuple[int, int]
) -> None:
    times = (0.5, 0.25)
    wanted = [evaluate(tiny.transformer, tiny.controlnet, CUDA, time) for time in times]
    nets = {name: replace(net, once=FLUX_ONCE) for name, net in tiny.nets().items()}
    vram, host = budgets
    with stream(
        nets,
        vram_bytes=vram,
        host_bytes=host,
        device=CUDA,
        dtype=torch.bfloat16,
        enter_card=False,
        embeddings=len(times),
    ) as streamed:
        for _ in range(2):
            # A second time without leaving: the next job of a batch, while copies are under way.
            streamed.enter_card(
                lambda name: [embedding(nets[name].module, time, CUDA) for time in times]
            )
            for number in (0, 1, 0):
                streamed.choose(number)
                got = evaluate(
                    nets["transformer"].module, nets["controlnet"].module, CUDA, times[number]
                )
                assert torch.equal(got, wanted[number])


def test_after_a_refused_registration_kernels_run() -> None:
    buffer = HostBuffer(2**20)
    buffer.touch()
    buffer.register()
    assert buffer.registered
    buffer.registered = False
    buffer.register()  # of pages that are registered already
    assert not buffer.registered
    assert "could not be registered" in buffer.note
    assert float(torch.ones(1, device=CUDA)) == 1.0
    buffer.registered = True
    buffer.close()
