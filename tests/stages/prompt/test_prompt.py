"""The prompt stage: passing on, seeded rewriting, 8-bit weights, and what is made of an answer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devtools.tiny.text import build_qwen
from stages.contract import Context, StageError
from stages.process.stage_runner import StageRunner
from stages.prompt.instructions import SYSTEM, clean, messages
from stages.prompt.int8 import PACKED_ROWS, Int8Linear, quantize_linears
from stages.prompt.stage import Prompt, PromptParams

ROOT = Path(__file__).resolve().parents[3]
CAPTION = "a brown owl on a branch"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_qwen(folder)
    build_qwen(folder, "qwen2-1.5b", tied=True)
    return folder


@pytest.fixture(autouse=True)
def own_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(models))


def rewritten(seed: int = 42, dtype: str = "float32", **params: Any) -> str:
    stage = Prompt(PromptParams(enabled=True, **{"max_new_tokens": 16, **params}))
    context = Context(dtype=dtype, seed=seed, threads=1)
    stage.load(context)
    outputs = stage.run({"caption": CAPTION}, context)
    for spec in stage.outputs:
        spec.check(outputs[spec.name])
    prompt: str = outputs["prompt"]
    return prompt


# --- without a model ------------------------------------------------------------------------------


def test_by_default_the_caption_is_passed_on_without_weights_or_model() -> None:
    assert Prompt.weights(PromptParams()) == ()
    assert Prompt.weights(PromptParams(enabled=True)) == ("qwen2-7b",)
    code = (
        "import sys\n"
        "from stages.contract import Context\n"
        "from stages.prompt.stage import Prompt, PromptParams\n"
        "stage = Prompt(PromptParams())\n"
        "stage.load(Context())\n"
        "assert stage.run({'caption': 'a cat'}, Context()) == {'prompt': 'a cat'}\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- sampling -------------------------------------------------------------------------------------


def test_a_prompt_is_that_of_plain_transformers_with_the_same_seed(models: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models / "qwen2-7b")
    model = AutoModelForCausalLM.from_pretrained(models / "qwen2-7b", dtype=torch.float32).eval()
    inputs = tokenizer.apply_chat_template(
        messages(CAPTION), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        ids = model.generate(**inputs, max_new_tokens=16, temperature=0.7)
    answer = tokenizer.decode(ids[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    assert rewritten(seed=7) == clean(answer)


def test_the_seed_decides_and_zero_is_a_seed() -> None:
    assert rewritten(seed=0) == rewritten(seed=0)
    assert len({rewritten(seed=seed) for seed in (0, 1, 42)}) == 3


def test_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rewritten(seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_at_temperature_zero_the_seed_makes_no_difference() -> None:
    assert rewritten(seed=1, temperature=0.0) == rewritten(seed=2, temperature=0.0)


def test_another_model_can_be_named() -> None:
    assert rewritten(weights="qwen2-1.5b") != rewritten()
    params = PromptParams(enabled=True, weights="qwen2-1.5b")
    assert Prompt.weights(params) == ("qwen2-1.5b",)


def test_many_jobs_share_one_load(tmp_path: Path) -> None:
    core = StageRunner("prompt", inline_max_bytes=1 << 20)
    core.load({"enabled": True, "max_new_tokens": 12}, Context(threads=1))
    (tmp_path / "caption.txt").write_text(CAPTION)
    contents = []
    for _ in range(2):
        result = core.run(
            {"caption": [tmp_path / "caption.txt"]}, tmp_path, tmp_path, 42, lambda *_: None
        )
        contents.append(result.outputs["prompt"][0].content)
    core.close()
    assert contents[0] == contents[1]
    assert contents[0]


def test_an_empty_answer_is_an_error_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.prompt.llm.Rewriter.rewrite", lambda *_: "")
    with pytest.raises(StageError, match="nothing") as caught:
        rewritten()
    assert "prompt.enabled=false" in caught.value.hint


# --- 8-bit weights --------------------------------------------------------------------------------


def layer(bias: bool = True) -> nn.Linear:
    generator = torch.Generator().manual_seed(3)
    linear = nn.Linear(64, 48, bias=bias)
    for parameter in linear.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_is_off_by_half_a_level_at_most(dtype: torch.dtype) -> None:
    linear = layer().to(dtype)
    weight = linear.weight.detach().float()
    quantized = Int8Linear(linear)
    restored = quantized.levels.float() * quantized.scale.float()[:, None]
    half = weight.abs().amax(dim=1, keepdim=True) / 254
    assert bool(((restored - weight).abs() <= half * 1.005).all())
    assert quantized.levels.dtype == torch.int8
    assert quantized.scale.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_few_and_many_rows_give_the_same_product(dtype: torch.dtype, bias: bool) -> None:
    quantized = Int8Linear(layer(bias).to(dtype))
    x = torch.randn(2, PACKED_ROWS, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    many = quantized(x)
    few = torch.stack([quantized(part) for part in x])
    tolerance = 1e-4 if dtype == torch.float32 else 0.02
    assert many.shape == (2, PACKED_ROWS, 48)
    assert many.dtype == few.dtype == dtype
    assert (few - many).abs().max() <= tolerance * many.abs().max()
    exact = nn.functional.linear(
        x.float(),
        quantized.levels.float() * quantized.scale.detach().float()[:, None],
        None if quantized.bias is None else quantized.bias.float(),
    )
    assert (many.float() - exact).abs().max() <= tolerance * exact.abs().max()


def test_layers_of_more_rows_than_are_quantised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Int8Linear(layer())
    monkeypatch.setattr("stages.prompt.int8._ROWS_AT_ONCE", 7)
    assert torch.equal(Int8Linear(layer()).levels, whole.levels)


def test_a_row_of_zeros_stays_zero() -> None:
    linear = layer(bias=False)
    linear.weight.data[5] = 0
    out = Int8Linear(linear)(torch.ones(1, 64))
    assert torch.isfinite(out).all()
    assert out[0, 5] == 0


@pytest.mark.parametrize("name", ["qwen2-7b", "qwen2-1.5b"])
def test_a_quantised_model_answers_almost_as_the_whole_one(models: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32).eval()
    ids = torch.arange(40)[None] + 10
    with torch.inference_mode():
        whole = model(ids).logits
        quantize_linears(model)
        quantized = model(ids).logits
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert model.get_input_embeddings().weight.dtype == torch.float32
    error = (quantized - whole).norm() / whole.norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_int8_rewrites_and_keeps_to_the_seed(dtype: str) -> None:
    first = rewritten(seed=3, dtype=dtype, quantize="int8")
    assert first
    assert first == rewritten(seed=3, dtype=dtype, quantize="int8")


# --- the instructions and the answer --------------------------------------------------------------


def test_every_worked_example_follows_the_instructions() -> None:
    answers = re.findall(r"^Prompt: (.*)$", SYSTEM, flags=re.MULTILINE)
    questions = re.findall(r"^User: ", SYSTEM, flags=re.MULTILINE)
    assert len(answers) == len(questions) == 3
    for answer in answers:
        parts = ["3D", "Front view:", "Left side view:", "Rear view:", "Right side view:"]
        parts += ["No background.", "2x4 grid", "normal maps in the lower row."]
        places = [answer.find(part) for part in parts]
        assert -1 not in places
        assert places == sorted(places)
        assert answer == clean(answer)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("A 3D owl.\n\nFront view: eyes.", "A 3D owl. Front view: eyes."),
        ('  "A 3D owl."\n', "A 3D owl."),
        ("Prompt: A 3D owl.", "A 3D owl."),
        ('A sign that says "no"', 'A sign that says "no"'),
        ('"', '"'),
        (" \n\t", ""),
    ],
)
def test_an_answer_becomes_one_line(answer: str, line: str) -> None:
    assert clean(answer) == line


def test_every_param_is_described() -> None:
    assert all(field.description for field in PromptParams.model_fields.values())
