"""What the flux stage refuses, asks for and promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from devtools.tiny.flux_jobs import SMALL, context, job_inputs, run
from stages.contract import BadInput, Context, StageError
from stages.flux import budget, engine
from stages.flux.params import ControlParams, FluxParams
from stages.flux.stage import Flux

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


@pytest.mark.parametrize("mode", ["depth", "pose"])
def test_a_missing_control_image_is_bad_input(inputs: dict[str, np.ndarray], mode: str) -> None:
    with pytest.raises(BadInput, match=f"control_{mode}") as caught:
        run(inputs, controlnet=[{"mode": mode}])
    assert caught.value.hint


def test_text_mode_with_a_control_of_the_bundle_is_bad_input(inputs: dict[str, np.ndarray]) -> None:
    text = {name: value for name, value in inputs.items() if name != "reference_bundle"}
    with pytest.raises(BadInput, match="needs a reference bundle") as caught:
        run(text)
    assert "controlnet: []" in caught.value.hint


@pytest.mark.parametrize("name", ["prompt_embeds", "pooled_embeds"])
def test_embeddings_of_another_model_are_bad_input(
    inputs: dict[str, np.ndarray], name: str
) -> None:
    with pytest.raises(BadInput, match=f"{name} are 16 wide.*takes 32"):
        run({**inputs, name: inputs[name][..., :16]})


def test_nan_ends_the_run_at_the_step_that_gave_it(inputs: dict[str, np.ndarray]) -> None:
    stage = Flux(FluxParams(**SMALL))
    stage.load(context())
    assert stage.engine is not None
    stage.engine.nets.transformer.proj_out.bias.data = torch.full((16,), torch.nan)
    with pytest.raises(StageError, match="step 1 of 3") as caught:
        stage.run(inputs, context())
    assert (caught.value.kind, "bfloat16" in caught.value.hint) == ("internal", True)


@pytest.mark.parametrize(("value", "words"), [(0.0, "flat"), (np.nan, "NaN")])
def test_a_picture_of_nothing_is_an_error(value: float, words: str) -> None:
    with pytest.raises(StageError, match=words) as caught:
        engine.check_picture(np.full((8, 16, 3), value, np.float32))
    assert caught.value.kind == "internal"


@pytest.mark.parametrize(
    "params",
    [
        {"width": 1024, "height": 1024},
        {"width": 2000, "height": 1000},
        {"strength": 0.0},
        {"controlnet": [{"mode": "tile", "start": 0.5, "end": 0.5}]},
        {"controlnet": [{"mode": "blur", "kernel_size": 10}]},
        {"controlnet": [{"mode": "normal"}]},
        {"storage": "nf4"},
    ],
)
def test_params_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FluxParams(**params)


def test_the_defaults_are_the_references() -> None:
    params = FluxParams()
    assert (params.width, params.height, params.steps) == (2048, 1024, 20)
    assert (params.guidance_scale, params.strength, params.lora_scale) == (3.5, 0.95, 1.0)
    (control,) = params.controlnet
    assert (control.mode, control.scale, control.start, control.end) == ("tile", 0.6, 0.0, 0.65)


def test_every_param_is_described() -> None:
    for model in (FluxParams, ControlParams):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, {"flux1-dev-fp8", "flux1-dev-vae", "flux1-controlnet-union", "kiss3dgen-lora"}),
        ({"controlnet": []}, {"flux1-dev-fp8", "flux1-dev-vae", "kiss3dgen-lora"}),
        ({"controlnet": [{"scale": 0}], "lora_scale": 0}, {"flux1-dev-fp8", "flux1-dev-vae"}),
        (
            {"transformer": "flux1-dev-gguf-q8", "lora": "", "controlnet": []},
            {"flux1-dev-gguf-q8", "flux1-dev-vae"},
        ),
    ],
)
def test_it_asks_for_the_weights_that_it_loads_and_no_others(
    params: dict[str, Any], names: set[str]
) -> None:
    assert set(Flux.weights(FluxParams(**params))) == names


@pytest.mark.parametrize("name", ["flux1-dev-gguf-q8", "own/flux.Q4.GGUF"])
@pytest.mark.parametrize(
    ("params", "words"),
    [({"placement": "streamed"}, "cannot be streamed"), ({"lora_merge": True}, "lora_merge")],
)
def test_what_gguf_weights_cannot_do_is_known_before_anything_runs(
    name: str, params: dict[str, Any], words: str
) -> None:
    FluxParams(transformer=name)
    with pytest.raises(ValidationError, match=words):
        FluxParams(transformer=name, **params)


def test_auto_tiling_of_older_runs_is_none() -> None:
    assert FluxParams(vae_tiling="auto").vae_tiling is False  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        FluxParams(vae_tiling="perhaps")  # type: ignore[arg-type]


@pytest.mark.parametrize(("gib", "fits"), [(5.0, False), (5.3, False), (5.5, True), (0.0, True)])
def test_a_card_too_small_to_decode_in_one_piece_is_known_before_the_steps(
    gib: float, fits: bool
) -> None:
    params = FluxParams(width=2048, height=1024)
    within = Context(device="cuda:0", dtype="bfloat16", vram_bytes=int(gib * (1 << 30)))
    if fits:
        budget.require_room_to_decode(params, within, torch.bfloat16)
        return
    with pytest.raises(StageError, match="decoding 2048 x 1024 in one piece") as caught:
        budget.require_room_to_decode(params, within, torch.bfloat16)
    assert caught.value.kind == "out_of_memory"
    budget.require_room_to_decode(FluxParams(vae_tiling=True), within, torch.bfloat16)


def test_a_vae_in_one_file_is_refused(inputs: dict[str, np.ndarray], models: Path) -> None:
    (path,) = (models / "flux1-dev-vae").rglob("*.safetensors")
    with pytest.raises(StageError, match="one file") as caught:
        run(inputs, vae=str(path))
    assert "config.json" in caught.value.hint
    assert caught.value.kind == "missing_weights"


@pytest.mark.parametrize("placement", ["resident", "streamed"])
@pytest.mark.parametrize("param", ["transformer", "controlnet_weights"])
def test_weights_of_another_architecture_are_missing_weights(
    inputs: dict[str, np.ndarray], models: Path, param: str, placement: str
) -> None:
    """A transformer and a ControlNet changed places."""
    other = {
        "transformer": str(models / "flux1-controlnet-union"),
        "controlnet_weights": str(models / "flux1-dev-transformer" / "transformer"),
    }
    with pytest.raises(StageError, match="does not fit the model") as caught:
        run(inputs, **{"placement": placement, param: other[param]})
    assert caught.value.kind == "missing_weights"


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_a_damaged_config_is_named(
    inputs: dict[str, np.ndarray],
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    shutil.copytree(models, tmp_path / "own")
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))
    config = tmp_path / "own" / "flux1-controlnet-union" / "config.json"
    config.write_bytes(content)
    with pytest.raises(StageError, match=r"config\.json cannot be read") as caught:
        run(inputs)
    assert caught.value.kind == "missing_weights"


def test_missing_weights_are_named(
    inputs: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StageError, match="kiss3dgen-lora") as caught:
        run(inputs)
    assert caught.value.kind == "missing_weights"


def test_reading_the_contract_imports_nothing_heavy() -> None:
    code = (
        "import sys, stages.flux.stage\n"
        "assert not {'numpy', 'cv2', 'torch', 'diffusers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
