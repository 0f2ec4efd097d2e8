"""Layers that are computed once a job: their outputs are kept, their weights are nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from devtools.streamed_nets import CPU, TinyFlux, embedding, evaluate, low_rank, save_tiny_flux
from stages.contract import StageError
from stages.flux.blocks import FLUX_ONCE
from stages.streaming.layout import ALIGNMENT
from stages.streaming.models import StreamedModels, stream
from stages.streaming.net import Net

BUDGETS = {
    "all on the card": (2**30, 0),
    "some pinned": (290_000, 2**30),
    "some in the file": (290_000, 60_000),
}
TIMES = (0.5, 0.25, 1.0)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFlux:
    with torch.no_grad():
        return save_tiny_flux(tmp_path_factory.mktemp("nets"))


def once(nets: dict[str, Net]) -> dict[str, Net]:
    return {name: replace(net, once=FLUX_ONCE) for name, net in nets.items()}


def open_once(nets: dict[str, Net], budgets: tuple[int, int], **more: Any) -> StreamedModels:
    vram, host = budgets
    return stream(
        nets,
        vram_bytes=vram + more.pop("work", 0),
        host_bytes=host,
        device=CPU,
        dtype=torch.bfloat16,
        enter_card=False,
        embeddings=len(TIMES),
        threads=2,
        **more,
    )


def enter(streamed: StreamedModels, nets: dict[str, Net]) -> None:
    streamed.enter_card(lambda name: [embedding(nets[name].module, time) for time in TIMES])


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_output_is_bit_identical_to_resident_at_every_noise_level(
    tiny: TinyFlux, budgets: tuple[int, int]
) -> None:
    nets = once(tiny.nets())
    with open_once(nets, budgets) as streamed:
        for _ in range(2):
            enter(streamed, nets)
            for number in (0, 1, 2, 1):
                streamed.choose(number)
                found = evaluate(
                    nets["transformer"].module, nets["controlnet"].module, time=TIMES[number]
                )
                wanted = evaluate(tiny.transformer, tiny.controlnet, time=TIMES[number])
                assert torch.equal(found, wanted)
            streamed.leave_card()


def test_a_lora_of_such_layers_is_merged(tiny: TinyFlux) -> None:
    plain = tiny.nets()
    deltas = low_rank(plain, "norm")
    assert len(deltas) == 9  # two of each double block, one of each single one, norm_out's
    nets = once(tiny.nets(transformer=deltas))
    found = {}
    for name, several in (("streamed", tiny.nets(transformer=deltas)), ("once", nets)):
        work = 2**26  # what merging takes beside weights
        if name == "once":
            with open_once(several, BUDGETS["some in the file"], work=work) as streamed:
                enter(streamed, several)
                found[name] = evaluate(several["transformer"].module)
        else:
            vram, host = BUDGETS["some in the file"]
            with stream(
                several,
                vram_bytes=vram + work,
                host_bytes=host,
                device=CPU,
                dtype=torch.bfloat16,
            ):
                found[name] = evaluate(several["transformer"].module)
    assert torch.equal(found["once"], found["streamed"])
    assert not torch.equal(found["once"], evaluate(tiny.transformer))


def test_neither_card_nor_host_holds_their_weights(tiny: TinyFlux) -> None:
    budgets = (2**30, 0)
    plain = tiny.nets()
    weights = sum(
        -(-2 * parameter.numel() // ALIGNMENT) * ALIGNMENT
        for net in plain.values()
        for name, parameter in net.module.named_parameters()
        if "blocks" in name and name.rpartition(".")[0].endswith(FLUX_ONCE)
    )
    with stream(
        plain, vram_bytes=budgets[0], host_bytes=0, device=CPU, dtype=torch.bfloat16
    ) as streamed:
        with_them = streamed.plan.card_bytes
    rows = sum(
        len(parameter)
        for net in plain.values()
        for name, parameter in net.module.named_parameters()
        if "blocks" in name and name.endswith(tuple(f"{layer}.bias" for layer in FLUX_ONCE))
    )
    outputs = 2 * len(TIMES) * rows
    with open_once(once(tiny.nets()), budgets) as streamed:
        without = streamed.plan.card_bytes
    assert with_them - without == weights - outputs


def test_a_network_that_embeds_otherwise_than_told_is_found_out(tiny: TinyFlux) -> None:
    nets = once(tiny.nets())
    with open_once(nets, BUDGETS["some pinned"]) as streamed:
        enter(streamed, nets)
        streamed.choose(1)
        with pytest.raises(StageError, match="embeds the noise level otherwise") as caught:
            evaluate(nets["transformer"].module, time=TIMES[0])
        assert caught.value.kind == "internal"


def test_inputs_have_to_be_told(tiny: TinyFlux) -> None:
    with (
        open_once(once(tiny.nets()), BUDGETS["some pinned"]) as streamed,
        pytest.raises(ValueError, match="no inputs"),
    ):
        streamed.enter_card()


def test_a_file_that_was_cut_is_named(tiny: TinyFlux, tmp_path: Path) -> None:
    copied = save_tiny_flux(tmp_path)
    nets = once(copied.nets())
    with open_once(nets, (2**30, 0)) as streamed:
        for file in (tmp_path / "transformer").glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:200])
        with pytest.raises(StageError, match="truncated") as caught:
            enter(streamed, nets)
        assert caught.value.kind == "missing_weights"


def test_after_a_failed_entry_the_card_is_empty_and_can_be_entered(tiny: TinyFlux) -> None:
    nets = once(tiny.nets())
    with open_once(nets, BUDGETS["some pinned"]) as streamed:
        with pytest.raises(ValueError, match="no inputs"):
            streamed.enter_card()
        assert all(parameter.is_meta for parameter in nets["transformer"].module.parameters())
        enter(streamed, nets)
        streamed.choose(0)
        found = evaluate(nets["transformer"].module, time=TIMES[0])
        assert torch.equal(found, evaluate(tiny.transformer, time=TIMES[0]))
