"""The flux stage with streamed nets: the same bundle within any budget, and the budgets kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from devtools.tiny import flux as tiny
from devtools.tiny.flux_jobs import SMALL, context, job_inputs, run
from stages.contract import Context, StageError
from stages.flux import budget, checkpoints, streamed_nets
from stages.flux.params import FluxParams
from stages.flux.stage import Flux
from stages.flux.streamed_nets import StreamedNets
from stages.process.vram_cap import CONTEXT_BYTES
from stages.streaming.delta import SCRATCH_NUMBERS
from stages.weights.checkpoint import load_state_dict

GIB = 1 << 30
BUDGETS = {
    "all on the card": (10**9, 0, {"card"}),
    "some on the card, the rest pinned": (2_600_000, 10**9, {"card", "host"}),
    "three tiers": (2_000_000, 1_400_000, {"card", "host", "file"}),
    "two slots, the rest in the file": (1_760_000, 700_000, {"card", "file"}),
}
"""Weights on the card and registered memory, bytes, and the tiers that they give: the tiny nets
have 4.2 MB in float32, half a MB of it outside of blocks, and blocks of up to 0.6 MB, a third of
which are AdaLN's layers, which no tier holds."""
LORA_WORK = 4 * SCRATCH_NUMBERS + 100_000
"""What merging takes on the card beside weights."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.build_all(folder)
    tiny.build_gguf(folder)
    return folder


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


@pytest.fixture(autouse=True)
def aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident weights at aligned addresses, as streamed ones are: BLAS adds up in another order
    where a mapped file's tensors are not."""

    def copied(path: Path) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in load_state_dict(path).items()}

    monkeypatch.setattr(checkpoints, "load_state_dict", copied)


def allow(monkeypatch: pytest.MonkeyPatch, weights: int, host: int, device: int = 0) -> None:
    """Plan with these budgets, which the real formula would not give to nets so small."""
    limits = budget.NetBudget(weights, host, device or weights)
    monkeypatch.setattr(budget, "plan_budget", lambda *_: limits)


def open_stage(within: Context | None = None, **params: Any) -> tuple[Flux, StreamedNets]:
    stage = Flux(FluxParams(**{**SMALL, "placement": "streamed", **params}))
    stage.load(within or context())
    assert stage.engine is not None
    nets = stage.engine.nets
    assert isinstance(nets, StreamedNets)
    return stage, nets


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_the_bundle_is_the_residents_to_the_bit_in_every_job(
    inputs: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    budgets: tuple[int, int, set[str]],
) -> None:
    wanted = run(inputs, lora_scale=0.0)
    weights, host, tiers = budgets
    allow(monkeypatch, weights, host)
    stage, nets = open_stage(lora_scale=0.0)
    assert set(nets.streamed.plan.tiers) == tiers
    for _ in range(2):
        np.testing.assert_array_equal(stage.run(inputs, context())["bundle"], wanted)
    stage.close()


@pytest.mark.parametrize("device", [0, 10**9], ids=["leaves the card", "stays on it"])
def test_a_second_job_has_its_own_prompt_and_seed(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, device: int
) -> None:
    """AdaLN's outputs depend on the prompt: they are made anew also where weights stayed."""
    other = {**inputs, "pooled_embeds": -inputs["pooled_embeds"]}
    wanted = [
        run(inputs, lora_scale=0.0),
        run(other, context(seed=7), lora_scale=0.0),
        run(inputs, lora_scale=0.0),
    ]
    assert not np.array_equal(wanted[0], wanted[1])
    allow(monkeypatch, 2_600_000, 10**9, device)
    stage, _ = open_stage(lora_scale=0.0)
    jobs = [(inputs, context()), (other, context(seed=7)), (inputs, context())]
    for (job, within), bundle in zip(jobs, wanted, strict=True):
        np.testing.assert_array_equal(stage.run(job, within)["bundle"], bundle)
    stage.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_merge": True},
        {"lora_merge": True, "transformer": "flux1-dev-fp8", "storage": "file"},
        {"lora_scale": 0.0, "storage": "fp8"},
        {"lora_merge": True, "storage": "fp8"},
        {"lora_scale": 0.0, "transformer": "flux1-dev-fp8"},
        {"lora_scale": 0.0, "controlnet": []},
        {"lora_scale": 0.0, "controlnet": [{"start": 0.3, "end": 0.9}, {"mode": "gray"}]},
    ],
    ids=str,
)
def test_merged_and_small_weights_are_the_residents_to_the_bit(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    wanted = run(inputs, **settings)
    work = LORA_WORK if "lora_merge" in settings else 0
    allow(monkeypatch, 2_600_000 + work, 2_600_000)
    np.testing.assert_array_equal(run(inputs, **settings, placement="streamed"), wanted)


def test_a_lora_is_merged_also_where_the_resident_net_has_an_adapter(
    inputs: dict[str, np.ndarray],
) -> None:
    np.testing.assert_allclose(run(inputs, placement="streamed"), run(inputs), atol=1e-4)


def test_one_evaluation_a_step_is_the_residents_to_the_bit(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run(inputs, lora_scale=0.0, sampler="heun_pec")
    assert not np.array_equal(wanted, run(inputs, lora_scale=0.0))
    allow(monkeypatch, 1_760_000, 700_000)
    stage, nets = open_stage(lora_scale=0.0, sampler="heun_pec")
    np.testing.assert_array_equal(stage.run(inputs, context())["bundle"], wanted)
    assert nets.streamed.stats.surprises == 0
    stage.close()


# --- what is refused ------------------------------------------------------------------------------


def test_what_is_no_safetensors_file_cannot_be_streamed(
    inputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "mine.pt").write_bytes(b"a pickle")
    with pytest.raises(StageError, match=r"mine\.pt.*cannot be streamed") as caught:
        run(inputs, placement="streamed", transformer=str(tmp_path / "mine.pt"))
    assert caught.value.kind == "missing_weights"
    assert "flux1-dev-fp8" in caught.value.hint


def test_a_layer_that_flux_does_not_have_is_named(
    inputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tensors = tiny.bfl_state_dict(tiny.transformer())
    tensors["double_blocks.0.novelty.weight"] = torch.ones(1)
    save_file(tensors, tmp_path / "own.safetensors")
    with pytest.raises(StageError, match=r"double_blocks\.0\.novelty\.weight"):
        run(inputs, placement="streamed", transformer=str(tmp_path / "own.safetensors"))


def test_a_budget_too_small_for_two_blocks_is_out_of_memory() -> None:
    with pytest.raises(StageError, match="at least") as caught:
        open_stage(context(host_bytes=500_000))
    assert caught.value.kind == "out_of_memory"


# --- budgets --------------------------------------------------------------------------------------


def test_on_a_cpu_all_that_is_filled_with_weights_is_within_host_bytes(
    inputs: dict[str, np.ndarray],
) -> None:
    limit = 3_500_000
    stage, nets = open_stage(context(host_bytes=limit), lora_scale=0.0)
    plan = nets.streamed.plan
    assert "file" in plan.tiers
    assert plan.card_bytes + plan.host_bytes <= limit
    np.testing.assert_array_equal(
        stage.run(inputs, context())["bundle"], run(inputs, lora_scale=0.0)
    )
    stage.close()


@pytest.mark.parametrize("cap", [5, 6, 8, 12])
def test_weights_activations_and_cuda_context_are_within_the_cap(
    monkeypatch: pytest.MonkeyPatch, cap: int
) -> None:
    """FLUX.1-dev at 1024 x 2048: 2.0 GiB were measured of a bare evaluation; with 2.2 GiB to spare
    the whole stage ran out of memory, with 2.7 it did not."""
    monkeypatch.setattr(budget, "free_bytes", lambda device: 24 * GIB)
    activations = budget.activation_bytes(3072, 8192, streamed_nets.TEXT_TOKENS, 2, 0)
    assert 2.6 * GIB < activations < 2.8 * GIB
    limits = budget.plan_budget(Context("cuda:0", vram_bytes=cap * GIB), activations)
    assert limits.weights + activations + CONTEXT_BYTES == cap * GIB
    assert 0 < limits.host < 24 * GIB
    limited = Context("cuda:0", vram_bytes=cap * GIB, host_bytes=4 * GIB)
    assert budget.plan_budget(limited, activations).host == 4 * GIB


def test_without_limits_what_is_free_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "free_bytes", lambda device: (40 if "cuda" in device else 24) * GIB)
    limits = budget.plan_budget(Context("cuda:0"), 2 * GIB)
    assert limits.weights == 38 * GIB - budget.MARGIN
    assert limits.host == 18 * GIB


def test_several_controls_need_more(monkeypatch: pytest.MonkeyPatch) -> None:
    one, several = (budget.activation_bytes(3072, 8192, 1241, 2, held) for held in (0, 15))
    assert several - one == 15 * 8192 * 3072 * 2


# --- who has the card when ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "roomy"),
    [(0, False), (50_000_000, False), (10**9, True)],
    ids=["none", "a bfloat16 decode", "plenty"],
)
def test_the_card_is_the_vaes_unless_there_is_room_for_all(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, device: int, roomy: bool
) -> None:
    """A decode takes 37 MB in bfloat16; this one is float32 and takes twice that."""
    allow(monkeypatch, 2_600_000, 10**9, device)
    stage, nets = open_stage(lora_scale=0.0)
    on_card: list[tuple[str, bool]] = []

    def note(step: int, total: int, note: str = "") -> None:
        weight = nets.transformer.x_embedder.weight
        on_card.append((note, not weight.is_meta))

    for _ in range(2):
        stage.run(inputs, context(progress=note))
    found = dict(on_card)  # of the second job
    assert (found["encode"], found["step 1/3"], found["decode"]) == (roomy, True, roomy)
    stage.close()


def test_a_job_that_fails_leaves_the_card_and_the_next_one_works(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 2_600_000, 10**9, device=10**9)
    stage, nets = open_stage(lora_scale=0.0)
    handle = nets.transformer.single_transformer_blocks[0].register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("on purpose"))
    )
    with pytest.raises(RuntimeError, match="on purpose"):
        stage.run(inputs, context())
    assert all(parameter.is_meta for parameter in nets.transformer.parameters())
    handle.remove()
    np.testing.assert_array_equal(
        stage.run(inputs, context())["bundle"], run(inputs, lora_scale=0.0)
    )
    stage.close()


def test_the_streamer_is_told_when_the_controlnet_pauses(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 1_760_000, 10**9)
    stage, nets = open_stage(lora_scale=0.0)
    stage.run(inputs, context())
    assert nets.streamed.stats.surprises == 0
    stage.close()


def test_close_gives_everything_back_and_ends_the_stage(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 2_600_000, 2_600_000)
    stage, nets = open_stage(lora_scale=0.0)
    stage.run(inputs, context())
    stage.close()
    assert nets.streamed.host.bytes.numel() == 0
    with pytest.raises(StageError, match="before load"):
        stage.run(inputs, context())
    stage.close()
