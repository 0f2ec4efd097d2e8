"""The flux stage against diffusers' own pipelines, on tiny checkpoints in float32 on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet_flux import FluxMultiControlNetModel
from PIL import Image

from devtools.plain_diffusers import flux_pipeline
from devtools.tiny import flux as tiny
from devtools.tiny.flux_jobs import job_inputs, run
from stages.flux.controls import control_image
from stages.flux.params import ControlParams


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KISS3D_MODELS", str(built))
    return built


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


def call_plain(pipe: Any, inputs: dict[str, np.ndarray], seed: int = 42, **more: Any) -> np.ndarray:
    return pipe(
        image=torch.from_numpy(inputs["reference_bundle"]).permute(2, 0, 1)[None],
        prompt_embeds=torch.from_numpy(inputs["prompt_embeds"])[None],
        pooled_prompt_embeds=torch.from_numpy(inputs["pooled_embeds"])[None],
        height=64,
        width=128,
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=3.5,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **more,
    ).images[0]


@pytest.fixture
def diffusers_lora(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models again, with the LoRA under the keys that diffusers takes at any width."""
    for folder in models.iterdir():
        if folder.name != "kiss3dgen-lora":
            (tmp_path / folder.name).symlink_to(folder)
    tiny.build_lora(tmp_path, "diffusers")
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("modes", [["tile"], ["tile", "gray", "blur"]])
def test_it_equals_the_controlnet_pipeline(
    inputs: dict[str, np.ndarray],
    diffusers_lora: Path,
    monkeypatch: pytest.MonkeyPatch,
    modes: list[str],
) -> None:
    ends, scales = [0.65, 0.4, 1.0][: len(modes)], [0.6, 0.3, 0.9][: len(modes)]
    controls = [
        ControlParams(mode=mode, end=end, scale=scale)  # type: ignore[arg-type]
        for mode, end, scale in zip(modes, ends, scales, strict=True)
    ]
    found = run(inputs, controlnet=controls)
    net = diffusers.FluxControlNetModel.from_pretrained(diffusers_lora / "flux1-controlnet-union")
    pipe = flux_pipeline(
        "FluxControlNetImg2ImgPipeline",
        diffusers_lora,
        monkeypatch,
        controlnet=FluxMultiControlNetModel([net] * len(modes)),
    )
    numbers = {"tile": 1, "gray": 5, "blur": 3}
    wanted = call_plain(
        pipe,
        inputs,
        control_image=[
            Image.fromarray(control_image(inputs["reference_bundle"], c)) for c in controls
        ],
        control_mode=[numbers[mode] for mode in modes],
        controlnet_conditioning_scale=scales,
        control_guidance_start=[0.0] * len(modes),
        control_guidance_end=ends,
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_it_equals_the_plain_img2img_pipeline(
    inputs: dict[str, np.ndarray], diffusers_lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = flux_pipeline("FluxImg2ImgPipeline", diffusers_lora, monkeypatch)
    found = run(inputs, controlnet=[])
    np.testing.assert_allclose(found, call_plain(pipe, inputs), atol=1e-5)
