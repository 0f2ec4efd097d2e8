"""Loading from local folders, what is computed in, and contracts that import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny.text import build_qwen
from transformers import Qwen2ForCausalLM

from stages.common import pretrained
from stages.contract import Context

ROOT = Path(__file__).parent.parent.parent


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


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    folder = build_qwen(tmp_path)
    weights = folder / "model.safetensors"
    state = {
        name: tensor.clone()
        for name, tensor in Qwen2ForCausalLM.from_pretrained(folder).state_dict().items()
    }
    torch.save(state, folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        pretrained.from_folder(Qwen2ForCausalLM, folder)


@pytest.mark.parametrize("stage", ["caption", "prompt", "encode", "preprocess"])
def test_reading_a_contract_imports_nothing_heavy(stage: str) -> None:
    code = (
        f"import sys, stages.{stage}.stage\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'onnxruntime', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
