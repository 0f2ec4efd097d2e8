"""The flux stage multiplying in eight bits: near the plain result, the same in every placement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from devtools.tiny.flux_jobs import context, job_inputs, run
from stages.contract import StageError
from stages.flux import budget, checkpoints, eight_bit_choice
from stages.flux.eight_bit_choice import choose
from stages.flux.params import FluxParams
from stages.streaming.eight_bit import SCRATCH_NUMBERS
from stages.weights.checkpoint import load_state_dict

WORK = 2 * 4 * SCRATCH_NUMBERS + 200_000
"""What merging and rounding take on the card beside weights."""
CUDA = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident weights at aligned addresses, as streamed ones are: BLAS adds up otherwise."""
    monkeypatch.setenv("KISS3D_MODELS", str(built))

    def copied(path: Path) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in load_state_dict(path).items()}

    monkeypatch.setattr(checkpoints, "load_state_dict", copied)


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("compute", "most"), [("int8", 0.001), ("fp8", 0.005)])
@pytest.mark.parametrize("lora_scale", [0.0, 1.0])
def test_the_bundle_is_near_the_plain_one_and_not_it(
    inputs: dict[str, np.ndarray], compute: str, most: float, lora_scale: float
) -> None:
    """Off by 0.0003 and 0.0015; a LoRA that is left out would be 0.012."""
    plain = run(inputs, lora_scale=lora_scale)
    found = run(inputs, lora_scale=lora_scale, compute=compute)
    assert 5e-5 < relative(found, plain) < most


@pytest.mark.parametrize("compute", ["int8", "fp8"])
@pytest.mark.parametrize(
    "budgets", [(10**9, 0), (2_000_000, 10**9), (1_500_000, 1_200_000), (1_400_000, 700_000)]
)
def test_streamed_within_any_budget_is_the_residents_to_the_bit(
    inputs: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    compute: str,
    budgets: tuple[int, int],
) -> None:
    wanted = run(inputs, compute=compute)
    limits = budget.NetBudget(budgets[0] + WORK, budgets[1], 10**9)
    monkeypatch.setattr(budget, "plan_budget", lambda *_: limits)
    np.testing.assert_array_equal(run(inputs, compute=compute, placement="streamed"), wanted)


def test_placement_model_gives_what_resident_gives(inputs: dict[str, np.ndarray]) -> None:
    wanted = run(inputs, compute="int8")
    np.testing.assert_array_equal(run(inputs, compute="int8", placement="model"), wanted)


def test_a_float8_file_is_multiplied_in_eight_bits_too(inputs: dict[str, np.ndarray]) -> None:
    plain = run(inputs, transformer="flux1-dev-fp8")
    found = run(inputs, transformer="flux1-dev-fp8", storage="file", compute="int8")
    assert 5e-5 < relative(found, plain) < 0.001  # 0.0003


def test_the_result_says_what_it_cost_as_measured(inputs: dict[str, np.ndarray]) -> None:
    said: list[tuple[str, bool]] = []

    def warn(text: str, *, degraded: bool = False) -> None:
        said.append((text, degraded))

    run(inputs, context(warn=warn))
    assert said == []
    run(inputs, context(warn=warn), compute="int8")
    ((text, degraded),) = said
    assert degraded
    assert "eight bits (int8)" in text
    off = [float(word.rstrip("%,")) for word in text.split() if word.rstrip(",").endswith("%")]
    assert len(off) == 2
    assert all(0.2 < percent < 2.0 for percent in off)  # 0.4 and 0.7 of these


@pytest.mark.parametrize("transformer", ["flux1-dev-gguf-q8", "/mine/flux.gguf"])
def test_gguf_weights_are_refused_before_anything_runs(transformer: str) -> None:
    with pytest.raises(ValidationError, match="cannot be multiplied in eight bits"):
        FluxParams(transformer=transformer, compute="w8a8")
    assert FluxParams(transformer=transformer, compute="auto").compute == "auto"


def test_auto_changes_nothing_on_a_cpu(inputs: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(run(inputs, compute="auto"), run(inputs))


# --- which way a card is given --------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A pretended card: its capability, and seconds of a layer. Counts measurements."""
    state: dict[str, Any] = {"capability": (9, 0), "seconds": {}, "measured": 0}

    def measure(_device: object, _dtype: object, kinds: list[str]) -> dict[str, float]:
        state["measured"] += 1
        return {k: v for k, v in state["seconds"].items() if k == "plain" or k in kinds}

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: state["capability"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card / 3060 Ti")
    monkeypatch.setattr(eight_bit_choice, "_measure", measure)
    monkeypatch.setattr(eight_bit_choice, "cache_folder", lambda: tmp_path / "flux")
    return state


@pytest.mark.parametrize(
    ("capability", "seconds", "compute", "kind"),
    [
        ((9, 0), {"plain": 2.0, "int8": 1.5, "fp8": 1.0}, "w8a8", "fp8"),
        ((9, 0), {"plain": 2.0, "int8": 1.0, "fp8": 1.5}, "w8a8", "int8"),
        ((8, 6), {"plain": 2.0, "int8": 1.5, "fp8": 1.0}, "w8a8", "int8"),
        ((8, 6), {"plain": 2.0, "int8": 1.0}, "auto", "int8"),
        ((9, 0), {"plain": 2.0, "int8": 1.99, "fp8": 2.2}, "auto", None),
        ((9, 0), {"plain": 2.0, "int8": 2.2, "fp8": 2.1}, "w8a8", "fp8"),
        ((7, 0), {"plain": 2.0}, "auto", None),
        ((9, 0), {"plain": 2.0}, "auto", None),
        ((9, 0), {}, "int8", "int8"),
    ],
)
def test_a_card_is_given_what_measures_fastest_on_it(
    card: dict[str, Any], capability: tuple[int, int], seconds: Any, compute: Any, kind: str | None
) -> None:
    card.update(capability=capability, seconds=seconds)
    choice = choose(compute, CUDA, torch.bfloat16)
    assert choice.kind == kind
    assert choice.note or compute == "int8"


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        ({"plain": 4.30e-4, "fp8": 3.75e-4}, None),  # an H200: 0.7 s of a job
        ({"plain": 1.9e-3, "fp8": 1.1e-3}, "fp8"),  # 10 s
        ({"plain": 1.2e-2, "int8": 6.0e-3}, "int8"),  # 75 s
    ],
)
def test_auto_counts_what_loading_takes_longer(
    card: dict[str, Any], seconds: dict[str, float], kind: str | None
) -> None:
    card["seconds"] = seconds
    layers = eight_bit_choice.layers_of_job(20, 8192 + 1241)
    assert 11_000 < layers < 14_000
    choice = choose("auto", CUDA, torch.bfloat16, layers, eight_bit_choice.STREAMED_LOADING)
    assert choice.kind == kind
    assert choose("w8a8", CUDA, torch.bfloat16, layers, 1e9).kind is not None
    assert choose("auto", CUDA, torch.bfloat16, layers, 0.0).kind is not None
    if kind is None:
        assert "loading takes 4 s longer" in choice.note


def test_a_card_is_measured_once_and_again_where_the_record_is_damaged(
    card: dict[str, Any], tmp_path: Path
) -> None:
    card["seconds"] = {"plain": 2.0, "int8": 1.0, "fp8": 1.5}
    for _ in range(2):
        assert choose("auto", CUDA, torch.bfloat16).kind == "int8"
    assert card["measured"] == 1
    (file,) = (tmp_path / "flux").iterdir()
    for damage in ("", "[1]", "{}", '{"plain": "x"}', '{"plain": -1}'):
        file.write_text(damage)
        assert choose("auto", CUDA, torch.bfloat16).kind == "int8"
    assert card["measured"] == 6


def test_a_folder_that_cannot_be_written_to_costs_a_measurement_only(
    card: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "flux").write_text("a file in the way")
    card["seconds"] = {"plain": 2.0, "fp8": 1.0}
    assert choose("auto", CUDA, torch.bfloat16).kind == "fp8"


@pytest.mark.parametrize("compute", ["w8a8", "int8", "fp8"])
def test_a_card_that_cannot_is_told_so(card: dict[str, Any], compute: Any) -> None:
    card.update(capability=(7, 0), seconds={"plain": 1.0})
    with pytest.raises(StageError, match=r"capability 7\.0") as caught:
        choose(compute, CUDA, torch.bfloat16)
    assert "auto" in caught.value.hint
