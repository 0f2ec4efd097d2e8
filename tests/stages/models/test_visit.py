"""Modules that visit the device. The dtype tells a visitor's tensors from those at home."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.models.visit import place, visiting

CPU = torch.device("cpu")


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def pointers(module: nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}


def dtypes(module: nn.Module) -> set[torch.dtype]:
    return {parameter.dtype for parameter in module.parameters()}


def test_a_visitor_has_copies_and_its_own_tensors_again_afterwards() -> None:
    visitor = module()
    home, buffers = pointers(visitor), [buffer.dtype for buffer in visitor.buffers()]
    with visiting(visitor, CPU, torch.float16):
        assert dtypes(visitor) == {torch.float16}
        assert [buffer.dtype for buffer in visitor.buffers()] == buffers
    assert pointers(visitor) == home
    assert dtypes(visitor) == {torch.float32}


def test_it_goes_home_after_an_error_too() -> None:
    visitor = module()
    home = pointers(visitor)
    with pytest.raises(RuntimeError, match="boom"), visiting(visitor, CPU, torch.float16):
        raise RuntimeError("boom")
    assert pointers(visitor) == home


def test_what_is_there_already_is_not_copied() -> None:
    visitor = module()
    home = pointers(visitor)
    with visiting(visitor, CPU):
        assert pointers(visitor) == home
    place(visitor, CPU)
    assert pointers(visitor) == home
