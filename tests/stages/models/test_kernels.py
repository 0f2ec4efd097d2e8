"""TF32 and attention kernels: what is set while a stage computes, and that it is put back."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

from stages.contract import Context
from stages.contract.registry import BUILT_IN, stage_class
from stages.models.kernels import Attention, BackendParams, backends

State = tuple[bool, bool, list[SDPBackend]]


def state() -> State:
    """Matrix products in TF32, convolutions in TF32, attention kernels by preference."""
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        list(_cur_sdpa_kernel_backends(with_priority=True)),
    )


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_meant_for_matrices_and_convolutions(allowed: bool) -> None:
    before = state()
    with backends(BackendParams(allow_tf32=allowed)):
        assert state()[:2] == (allowed, allowed)
        assert state()[2] == before[2]
    assert state() == before


@pytest.mark.parametrize(
    ("attention", "first"),
    [
        ("flash", SDPBackend.FLASH_ATTENTION),
        ("efficient", SDPBackend.EFFICIENT_ATTENTION),
        ("cudnn", SDPBackend.CUDNN_ATTENTION),
        ("math", SDPBackend.MATH),
    ],
)
def test_the_chosen_attention_is_tried_first_and_others_may_follow(
    attention: Attention, first: SDPBackend
) -> None:
    before = state()
    with backends(BackendParams(attention=attention)):
        order = state()[2]
        assert order[0] == first
        assert len(order) == len(set(order)) == 4
    assert state() == before


@pytest.mark.parametrize("attention", get_args(Attention))
def test_every_choice_computes_the_same_on_the_cpu(attention: Attention) -> None:
    q, k, v = torch.randn(3, 1, 2, 20, 600, generator=torch.Generator().manual_seed(0))
    attend = torch.nn.functional.scaled_dot_product_attention
    mask = torch.ones(20, 20, dtype=torch.bool).tril()
    wanted = torch.softmax(q @ k.mT / 600**0.5 + torch.where(mask, 0.0, -torch.inf), -1) @ v
    with backends(BackendParams(allow_tf32=True, attention=attention)):
        torch.testing.assert_close(attend(q, k, v, attn_mask=mask), wanted)


def test_an_error_inside_puts_them_back() -> None:
    before = state()
    with pytest.raises(RuntimeError, match="boom"), backends(BackendParams(attention="math")):
        raise RuntimeError("boom")
    assert state() == before


def test_another_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="attention"):
        BackendParams.model_validate({"attention": "xformers"})


def test_the_stages_whose_models_run_on_a_card_have_the_params() -> None:
    """Not isomer: its matrices are cameras, which need every bit of float32."""
    having = {name for name in BUILT_IN if issubclass(stage_class(name).Params, BackendParams)}
    assert having == {"zero123plus", "encode", "flux", "prm.reference", "prm.reconstruct"}


MODELS: dict[str, Any] = {
    "zero123plus": ("_model", "views", {"image": None}),
    "flux": ("engine", "run", {"prompt_embeds": None, "pooled_embeds": None}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_stage_computes_with_what_its_params_say(name: str) -> None:
    attribute, method, inputs = MODELS[name]
    cls = stage_class(name)
    params: dict[str, Any] = {"allow_tf32": True, "attention": "math"}
    if name == "flux":
        params["controlnet"] = []
    stage = cls(cls.Params.model_validate(params))
    seen: list[State] = []

    def compute(*_: object) -> None:
        seen.append(state())

    setattr(stage, attribute, type("Model", (), {method: staticmethod(compute)})())
    stage.run(inputs, Context())
    ((matrices, convolutions, order),) = seen
    assert (matrices, convolutions, order[0]) == (True, True, SDPBackend.MATH)
