"""Loading from local folders, what is computed in, and contracts that import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2ForCausalLM

from devtools.tiny.text import build_qwen
from stages.contract import Context, StageError
from stages.models import pretrained

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_on_a_cpu_needs_instructions_for_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "has_native_bfloat16", lambda: native)
    expected = torch.bfloat16 if native else torch.float32
    assert pretrained.compute_dtype(Context(device="cpu", dtype="bfloat16")) == expected
    assert pretrained.compute_dtype(Context(device="cuda:0", dtype="bfloat16")) == torch.bfloat16
    assert pretrained.compute_dtype(Context(device="cpu", dtype="float32")) == torch.float32


def test_this_cpu_answers_whether_it_has_bfloat16() -> None:
    assert pretrained.has_native_bfloat16() in (True, False)


def build_one_file(folder: Path) -> Path:
    """The larger one comes in several files."""
    return build_qwen(folder, "qwen2-1.5b", tied=True)


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    folder = build_one_file(tmp_path)
    weights = folder / "model.safetensors"
    state = {
        name: tensor.clone()
        for name, tensor in Qwen2ForCausalLM.from_pretrained(folder).state_dict().items()
    }
    torch.save(state, folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(StageError, match="safetensors") as caught:
        pretrained.from_folder(Qwen2ForCausalLM, folder)
    assert caught.value.kind == "missing_weights"


def test_a_cut_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    folder = build_one_file(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(StageError, match="cannot be read") as caught:
        pretrained.from_folder(Qwen2ForCausalLM, folder)
    assert caught.value.kind == "missing_weights"
    assert "models verify" in caught.value.hint


def test_weights_of_another_model_are_refused_and_not_made_up_for(tmp_path: Path) -> None:
    folder = build_one_file(tmp_path)
    weights = folder / "model.safetensors"
    save_file({"some.other.weight": torch.zeros(2)}, weights, {"format": "pt"})
    with pytest.raises(StageError, match=r"does not fit the model: weights \d+ missing") as caught:
        pretrained.from_folder(Qwen2ForCausalLM, folder)
    assert caught.value.kind == "missing_weights"


def test_weights_of_another_size_are_named(tmp_path: Path) -> None:
    folder = build_one_file(tmp_path)
    weights = folder / "model.safetensors"
    state = load_file(weights)
    state["model.norm.weight"] = torch.ones(7)
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "other")
    (tmp_path / "other").replace(weights)
    with pytest.raises(StageError, match=r"1 of another shape \(model.norm.weight\)"):
        pretrained.from_folder(Qwen2ForCausalLM, folder)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    folder = build_qwen(tmp_path)
    for file in folder.glob("tokenizer*.json"):
        file.write_text("{")
    with pytest.raises(StageError, match="cannot be read"):
        pretrained.tokenizer_from_folder(AutoTokenizer, folder)


@pytest.mark.parametrize("stage", ["caption", "prompt", "encode", "preprocess"])
def test_reading_a_contract_imports_nothing_heavy(stage: str) -> None:
    code = (
        f"import sys, stages.{stage}.stage\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'onnxruntime', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_weights_keep_the_dtype_of_their_file_whatever_the_config_says(tmp_path: Path) -> None:
    """In float32, as this config asks, T5-XXL would take 18 GiB of memory of its own."""
    folder = build_one_file(tmp_path)
    stored = load_file(folder / "model.safetensors")
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in stored.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    assert '"torch_dtype": "float32"' in (folder / "config.json").read_text()
    model = pretrained.from_folder(Qwen2ForCausalLM, folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
