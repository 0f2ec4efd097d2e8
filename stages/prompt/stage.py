"""Stage "prompt": the caption -> the text that T5 encodes, optionally through a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stages import contract
from stages.contract import Context, StageError
from stages.contract.artifacts import CAPTION, PROMPT
from stages.weights.catalogue import find

if TYPE_CHECKING:
    from stages.prompt.llm import Rewriter


class PromptParams(contract.Params):
    """Settings of `Prompt`."""

    enabled: bool = Field(
        False, description="rewrite the caption with a language model; false passes it on"
    )
    weights: str = Field("qwen2-7b", description="name in models.yaml, or a folder")
    quantize: Literal["none", "int8"] = Field(
        "none",
        description="int8 halves the memory that bfloat16 takes: 8-bit weights, one scale a row",
    )
    temperature: float = Field(
        0.7, ge=0.0, le=2.0, description="of the sampling; 0 takes the likeliest token"
    )
    max_new_tokens: int = Field(512, ge=1, le=2048, description="longest prompt, in tokens")


class Prompt(contract.Stage):
    """A description of the object's four sides, written from the caption by Qwen2.

    Raises `StageError` of kind missing_weights, and of kind internal for an empty answer.
    """

    name = "prompt"
    summary = "rewrite the caption into a description of four sides (optional LLM)"
    inputs = (CAPTION,)
    outputs = (PROMPT,)
    Params: ClassVar[type[contract.Params]] = PromptParams

    params: PromptParams

    def __init__(self, params: PromptParams) -> None:
        super().__init__(params)
        self._model: Rewriter | None = None

    @classmethod
    def weights(cls, params: PromptParams) -> tuple[str, ...]:
        return (params.weights,) if params.enabled else ()

    @classmethod
    def uses_seed(cls, params: PromptParams) -> bool:
        return params.enabled

    def load(self, context: Context) -> None:
        if not self.params.enabled:
            return
        from stages.prompt.llm import Rewriter

        self._model = Rewriter(find(self.params.weights), self.params.quantize, context)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Input `caption`; output `prompt`."""
        caption = inputs[CAPTION.name]
        if not self.params.enabled:
            context.progress(1, 1, "caption passed on")
            return {PROMPT.name: caption}
        if self._model is None:
            raise StageError("internal", "run before load")
        prompt = self._model.rewrite(
            caption, self.params.temperature, self.params.max_new_tokens, context
        )
        if not prompt:
            raise StageError(
                "internal",
                "the language model answered with nothing",
                "try another --seed, or --set prompt.enabled=false to use the caption itself",
            )
        context.progress(1, 1)
        return {PROMPT.name: prompt}
