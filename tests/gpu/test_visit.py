"""Modules that visit a card: it is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.models.visit import visiting

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_card_is_left_as_it_was() -> None:
    visitor, card = nn.Linear(512, 512), torch.device("cuda")
    home = {name: tensor.data_ptr() for name, tensor in visitor.state_dict().items()}
    before = torch.cuda.memory_allocated()
    with visiting(visitor, card):
        assert {tensor.device.type for tensor in visitor.state_dict().values()} == {"cuda"}
        assert torch.cuda.memory_allocated() > before
    assert {name: tensor.data_ptr() for name, tensor in visitor.state_dict().items()} == home
    assert torch.cuda.memory_allocated() == before
