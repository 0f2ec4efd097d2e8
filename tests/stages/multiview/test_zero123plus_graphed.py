"""The UNet's kernels are replayed on a card, and run as ever where that cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stages.multiview.zero123plus.graphed import Graphed


class Doubling:
    """Stands for the UNet; its result is twice the first tensor plus the second."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.calls = 0

    def __call__(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 2.0 * latents + timestep


def given(number: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((3,), float(number), device=device), torch.tensor(number, device=device)


def test_on_a_cpu_every_call_runs() -> None:
    unet = Doubling("cpu")
    predict = Graphed(unet)  # type: ignore[arg-type]
    for number in range(4):
        assert predict(*given(number)).tolist() == [3.0 * number] * 3
    assert unet.calls == 4


def test_a_recording_that_fails_is_tried_once_and_all_runs_as_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextlib.contextmanager
    def refused(*_: Any, **__: Any) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refused)
    predict = Graphed(Doubling("cuda"))  # type: ignore[arg-type]
    for number in range(4):
        assert predict(*given(number)).tolist() == [3.0 * number] * 3
    assert caplog.text.count("could not be recorded") == 1


def test_a_recording_is_made_of_the_second_call_and_given_the_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unet = Doubling("cuda")
    replayed: list[float] = []

    class Graph:
        def replay(self) -> None:
            latents, timestep = predict._given
            replayed.append(float(timestep))
            predict._result.copy_(2.0 * latents + timestep)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
    predict = Graphed(unet)  # type: ignore[arg-type]
    for number in range(5):
        assert predict(*given(number)).tolist() == [3.0 * number] * 3
    assert unet.calls == 2
    assert replayed == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_a_replay_gives_the_bits_of_a_call() -> None:
    layer = torch.nn.Linear(64, 64).cuda()

    class Net(Doubling):
        def __call__(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return torch.tanh(layer(latents)) + timestep

    predict, plain = Graphed(Net("cuda")), Net("cuda")  # type: ignore[arg-type]
    for number in range(4):
        values = torch.randn(8, 64, device="cuda"), torch.tensor(number, device="cuda")
        assert torch.equal(predict(*values), plain(*values))
