"""On a real card: the text stages give what they give on the CPU, wherever their weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from devtools.tiny.encoders import build_flux_text, build_redux
from devtools.tiny.text import build_florence, build_qwen
from stages.caption.stage import Caption, CaptionParams
from stages.contract import Context
from stages.encode.stage import Encode, EncodeParams
from stages.prompt.stage import Prompt, PromptParams

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
CARD = "cuda:0"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for build in (build_flux_text, build_redux, build_florence, build_qwen):
        build(tmp_path)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))


def outputs(stage: Any, inputs: dict[str, Any], device: str, dtype: str = "float32") -> Any:
    context = Context(device=device, dtype=dtype, seed=3, threads=1)
    stage.load(context)
    return stage.run(inputs, context)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)


@pytest.mark.parametrize("placement", ["streamed", "resident"])
def test_embeddings_on_the_card_are_those_of_the_cpu(placement: str) -> None:
    inputs = {"prompt": "a red vase", "image": picture()}
    params = EncodeParams.model_validate({"placement": placement, "lora": ""})
    on_card = outputs(Encode(params), inputs, CARD)
    on_cpu = outputs(Encode(EncodeParams(lora="")), inputs, "cpu")
    for name, expected in on_cpu.items():
        assert np.abs(on_card[name] - expected).max() < 1e-3


def test_streamed_weights_leave_the_card_again() -> None:
    stage = Encode(EncodeParams(lora=""))
    inputs = {"prompt": "a red vase", "image": picture()}
    outputs(stage, inputs, CARD, "bfloat16")
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    outputs(stage, inputs, CARD, "bfloat16")
    assert torch.cuda.memory_allocated() <= held
    assert stage.t5 is not None
    assert "cuda" not in {p.device.type for p in stage.t5.model.parameters()}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_caption_is_made_on_the_card(dtype: str) -> None:
    stage = Caption(CaptionParams(max_new_tokens=16))
    assert outputs(stage, {"image": picture()}, CARD, dtype)["caption"]


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_prompt_on_the_card_keeps_to_the_seed_and_the_generators(quantize: str) -> None:
    params = PromptParams.model_validate(
        {"enabled": True, "quantize": quantize, "max_new_tokens": 12}
    )
    torch.cuda.manual_seed(9)
    before = torch.cuda.get_rng_state()
    first = outputs(Prompt(params), {"caption": "a cat"}, CARD, "bfloat16")
    again = outputs(Prompt(params), {"caption": "a cat"}, CARD, "bfloat16")
    assert first == again
    assert torch.equal(torch.cuda.get_rng_state(), before)
