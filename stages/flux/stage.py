"""Stage "flux": reference bundle and text embeddings -> the final bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stages.contract import BadInput, Context, Stage, StageError
from stages.contract.artifacts import (
    BUNDLE,
    CONTROL_DEPTH,
    CONTROL_POSE,
    POOLED_EMBEDS,
    PROMPT_EMBEDS,
    REFERENCE_BUNDLE,
)
from stages.flux.params import ControlParams, FluxParams
from stages.models.kernels import backends

if TYPE_CHECKING:
    import numpy as np

    from stages.flux.engine import Engine

GIVEN = {"depth": CONTROL_DEPTH, "pose": CONTROL_POSE}
"""Modes whose control image cannot be made from the reference bundle."""


class Flux(Stage):
    """FLUX.1-dev with LoRA and ControlNet-Union, denoising the reference bundle by Heun's method.

    Without a reference bundle (text mode) it starts from pure noise.

    Raises StageError: bad_input if a control image is missing or an input has the wrong size;
    missing_weights, also for those of another model, or that cannot be streamed;
    out_of_memory if a budget is too small to stream or to decode in;
    internal if the result is NaN or flat.
    """

    name = "flux"
    version = 2
    summary = "denoise the bundle with FLUX.1-dev, ControlNet-Union and the bundle LoRA"
    inputs = (
        replace(REFERENCE_BUNDLE, optional=True),
        PROMPT_EMBEDS,
        POOLED_EMBEDS,
        CONTROL_DEPTH,
        CONTROL_POSE,
    )
    outputs = (BUNDLE,)
    Params = FluxParams
    preload = (
        "numpy",
        "cv2",
        "torch",
        "diffusers.models.transformers.transformer_flux",
        "diffusers.models.controlnets.controlnet_flux",
        "diffusers.models.autoencoders.autoencoder_kl",
        "diffusers.loaders.peft",
        "peft",
    )
    params: FluxParams
    engine: Engine | None = None

    @classmethod
    def weights(cls, params: FluxParams) -> tuple[str, ...]:
        names = [params.transformer, params.vae]
        if params.active_controls:
            names.append(params.controlnet_weights)
        return (*names, *(choice.weights for choice in params.used_loras))

    @classmethod
    def costs(cls, params: FluxParams) -> str:
        said = {
            "bf16": "",
            "auto": "" if params.is_gguf else "multiplied in eight bits where that is faster",
        }
        told = [said.get(params.compute, "multiplied in eight bits")]
        if params.cache:
            least = f"{params.cache:g}"
            told.append(f"evaluations skipped whose first blocks change by less than {least}")
        return ", ".join(filter(None, told))

    def load(self, context: Context) -> None:
        from stages.flux.engine import Engine

        self.engine = Engine(self.params, context)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Inputs and output as in stages/contract/artifacts.py; `bundle` has the params' size."""
        from stages.flux.controls import resize_bundle
        from stages.flux.engine import Denoising

        if self.engine is None:
            raise StageError("internal", "run before load")
        params = self.params
        reference, note = inputs.get(REFERENCE_BUNDLE.name), "encode"
        if reference is not None:
            height, width = reference.shape[:2]
            if (height, width) != (params.height, params.width):
                note = f"encode ({width} x {height} resized to {params.width} x {params.height})"
            reference = resize_bundle(reference, params.height)
        job = Denoising(
            reference,
            [self._control_image(control, reference, inputs) for control in params.controlnet],
            inputs[PROMPT_EMBEDS.name],
            inputs[POOLED_EMBEDS.name],
            context.seed,
        )
        with backends(params):
            return {BUNDLE.name: self.engine.run(job, note, context)}

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def _control_image(
        self, control: ControlParams, reference: np.ndarray | None, inputs: Mapping[str, Any]
    ) -> np.ndarray:
        """(H, W, 3) uint8 at the params' size. Raises `BadInput` if its source is missing."""
        from stages.flux.controls import control_image, resize_bundle

        if control.mode in GIVEN:
            name = GIVEN[control.mode].name
            if name not in inputs:
                raise BadInput(
                    f"the ControlNet mode {control.mode} needs the input {name}",
                    "add a node that writes it, or take the mode out of the param controlnet",
                )
            given = inputs[name].astype("float32") / 255.0
            return (resize_bundle(given, self.params.height) * 255.0 + 0.5).astype("uint8")
        if reference is None:
            raise BadInput(
                f"the ControlNet mode {control.mode} needs a reference bundle, and there is none",
                "set controlnet: [] for text mode",
            )
        return control_image(reference, control)
