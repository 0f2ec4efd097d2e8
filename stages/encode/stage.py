"""Stage "encode": prompt and picture -> the embeddings that FLUX is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stages import contract
from stages.contract import BadInput, Context, StageError
from stages.contract.artifacts import IMAGE, POOLED_EMBEDS, PROMPT, PROMPT_EMBEDS
from stages.models.kernels import BackendParams, backends
from stages.models.lora_params import LoraParams
from stages.weights.catalogue import find

if TYPE_CHECKING:
    import numpy as np
    import torch

    from stages.encode.redux import ReduxImage
    from stages.encode.text import ClipText, T5Text

BUNDLE_PROMPT = "A grid of 2x4 multi-view image, elevation 5. White background."
"""What the LoRA was trained to answer with a bundle."""


class EncodeParams(BackendParams, LoraParams):
    """Settings of `Encode`."""

    clip_prompt: str = Field(
        BUNDLE_PROMPT, description="what CLIP encodes, and what T5 reads before the prompt"
    )
    max_sequence_length: int = Field(
        512, ge=1, le=512, description="T5 tokens; a shorter prompt is padded to it"
    )
    redux: bool = Field(True, description="append the picture's tokens to the prompt's")
    redux_strength: float = Field(0.5, ge=0.0, le=2.0, description="factor of the image tokens")
    prompt_embeds_scale: float = Field(1.0, gt=0.0, le=4.0, description="factor of all tokens")
    pooled_embeds_scale: float = Field(
        1.0, gt=0.0, le=4.0, description="factor of CLIP's pooled embedding"
    )
    placement: Literal["streamed", "resident"] = Field(
        "streamed",
        description="streamed brings one block at a time to the device; resident keeps all "
        "encoders there, which saves the transfers of a batch's later pictures; same result",
    )
    text_weights: str = Field("flux1-dev-text", description="name in models.yaml, or a folder")
    redux_weights: str = Field("flux1-redux", description="name in models.yaml, or a folder")


class Encode(contract.Stage):
    """CLIP-L, T5-XXL and Redux, so that the denoiser never shares a card with them: `clip`, `t5`
    and `redux` once it is loaded.

    Raises `StageError`: missing_weights; bad_input for dtype float16, in which T5-XXL overflows;
    internal when the embeddings are not finite; out_of_memory if a budget is too small to stream.
    `BadInput` without a picture for Redux.
    """

    name = "encode"
    version: ClassVar[int] = 2
    summary = "prompt and picture to FLUX's embeddings (CLIP, T5, Redux)"
    inputs = (PROMPT, replace(IMAGE, optional=True))
    outputs = (PROMPT_EMBEDS, POOLED_EMBEDS)
    Params: ClassVar[type[contract.Params]] = EncodeParams
    preload = ("stages.encode.text", "stages.encode.redux")

    params: EncodeParams

    def __init__(self, params: EncodeParams) -> None:
        super().__init__(params)
        self.clip: ClipText | None = None
        self.t5: T5Text | None = None
        self.redux: ReduxImage | None = None

    @classmethod
    def weights(cls, params: EncodeParams) -> tuple[str, ...]:
        redux = (params.redux_weights,) if params.redux else ()
        loras = (choice.weights for choice in params.used_loras)
        return (params.text_weights, *redux, *loras)

    @classmethod
    def uses_seed(cls, params: EncodeParams) -> bool:
        return False

    def load(self, context: Context) -> None:
        if context.dtype == "float16":
            raise StageError(
                "bad_input",
                "encode cannot compute in float16: T5-XXL overflows in it",
                "set dtype: bfloat16 (or float32) in this node's attempts",
            )
        import torch

        from stages.encode.placement import streaming_budget
        from stages.encode.redux import ReduxImage
        from stages.encode.text import ClipText, T5Text
        from stages.models.pretrained import compute_dtype

        torch.set_num_threads(context.threads)
        params = self.params
        device, dtype = torch.device(context.device), compute_dtype(context)
        text = find(params.text_weights)
        self.clip = ClipText(text, device, dtype, params.used_loras)
        self.t5 = T5Text(text, device, dtype)
        self.redux = None
        if params.redux:
            self.redux = ReduxImage(find(params.redux_weights), device, dtype)
        if params.placement == "resident":
            for encoder in (self.clip, self.t5, self.redux):
                if encoder is not None:
                    encoder.keep_on_device()
        elif device.type == "cuda":
            self.t5.stream(*streaming_budget(context, dtype))
        else:
            self.t5.visit_by_block()

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Inputs `prompt` and, for Redux, `image` (S, S, 3) uint8; outputs `prompt_embeds` (T, D)
        and `pooled_embeds` (P,), float32."""
        import torch

        from stages.encode.redux import join

        if self.clip is None or self.t5 is None:
            raise StageError("internal", "run before load")
        params = self.params
        if params.redux and IMAGE.name not in inputs:
            raise BadInput(
                "Redux needs the picture, and no node writes `image`",
                "set encode.redux=false, or add a preprocess node",
            )
        with torch.inference_mode(), backends(params):
            context.progress(0, 3, "CLIP")
            pooled = self.clip.pooled(params.clip_prompt)
            context.progress(1, 3, "T5")
            prompt = f"{params.clip_prompt} {inputs[PROMPT.name]}"
            tokens = self.t5.tokens(prompt, params.max_sequence_length)
            picture = None
            if self.redux is not None:
                context.progress(2, 3, "Redux")
                picture = self.redux.tokens(inputs[IMAGE.name])
            joined = join(tokens, picture, params.redux_strength)
            outputs = {
                PROMPT_EMBEDS.name: _as_array(joined * params.prompt_embeds_scale),
                POOLED_EMBEDS.name: _as_array(pooled * params.pooled_embeds_scale),
            }
        context.progress(3, 3)
        return outputs

    def close(self) -> None:
        if self.t5 is not None:
            self.t5.close()


def _as_array(embeds: torch.Tensor) -> np.ndarray:
    import torch

    if not torch.isfinite(embeds).all():
        raise StageError(
            "internal",
            "the embeddings hold NaN or infinity",
            "the weights may be damaged: kiss3d-orchestrate models verify",
        )
    array: np.ndarray = embeds.float().cpu().numpy()
    return array
