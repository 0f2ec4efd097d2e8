"""Load the tiny transformer and call it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from devtools.tiny import flux as tiny
from stages.flux.build import Form, build
from stages.flux.checkpoints import open_transformer
from stages.flux.lora import Lora

CPU = torch.device("cpu")
torch.set_num_threads(1)  # the tensors are too small for more
FULL = Form(torch.float32, "full", CPU, CPU)
FP8_STORED = Form(torch.float32, "fp8", CPU, CPU)


def call(model: Any) -> torch.Tensor:
    """Its velocity for fixed inputs."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        return model(
            hidden_states=torch.randn(1, 8, 4 * tiny.CHANNELS, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, tiny.TEXT, generator=generator),
            pooled_projections=torch.randn(1, tiny.POOLED, generator=generator),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([3.5]),
            txt_ids=torch.zeros(5, 3),
            img_ids=torch.arange(24.0).reshape(8, 3),
            return_dict=False,
        )[0]


def loaded(name: str, form: Form = FULL, lora: Lora | None = None, merge: bool = False) -> Any:
    return build(FluxTransformer2DModel, open_transformer(name), form, lora, merge)


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Not to the last bit: BLAS takes another path for a mapped file's alignment."""
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())
