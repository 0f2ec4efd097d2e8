"""Stage "caption": the preprocessed picture -> a paragraph that describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from stages import contract
from stages.contract import Context, StageError
from stages.contract.artifacts import CAPTION, IMAGE
from stages.weights.catalogue import find

if TYPE_CHECKING:
    from stages.caption.florence import Florence


class CaptionParams(contract.Params):
    """Settings of `Caption`."""

    text: str = Field(
        "", description="the caption itself: no model is loaded then; empty: describe the picture"
    )
    weights: str = Field("florence-2-large", description="name in models.yaml, or a folder")
    num_beams: int = Field(3, ge=1, le=16, description="beams of the search")
    max_new_tokens: int = Field(
        1024, ge=3, le=1024, description="longest caption, in tokens, with its start and end marks"
    )


class Caption(contract.Stage):
    """Florence-2's detailed caption of the picture, or the one that the user gave.

    The search has no randomness: the result depends on the picture, the params and the dtype.
    Raises `StageError` of kind missing_weights, and of kind internal for an empty caption.
    """

    name = "caption"
    summary = "describe the picture in words (Florence-2), or take the user's words"
    inputs = (IMAGE,)
    outputs = (CAPTION,)
    Params: ClassVar[type[contract.Params]] = CaptionParams
    preload = ("stages.caption.florence",)

    params: CaptionParams

    def __init__(self, params: CaptionParams) -> None:
        super().__init__(params)
        self._given = " ".join(params.text.split())
        self._model: Florence | None = None

    @classmethod
    def weights(cls, params: CaptionParams) -> tuple[str, ...]:
        return () if params.text.strip() else (params.weights,)

    @classmethod
    def uses_seed(cls, params: CaptionParams) -> bool:
        return False

    def load(self, context: Context) -> None:
        if self._given:
            return
        from stages.caption.florence import Florence

        self._model = Florence(find(self.params.weights), context)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Input `image` (S, S, 3) uint8; output `caption`, one line."""
        if self._given:
            context.progress(1, 1, "given")
            return {CAPTION.name: self._given}
        if self._model is None:
            raise StageError("internal", "run before load")
        caption = self._model.describe(
            inputs[IMAGE.name], self.params.num_beams, self.params.max_new_tokens, context
        )
        if not caption:
            raise StageError(
                "internal",
                "Florence-2 found nothing to say about the picture",
                'describe it yourself: --caption "..."',
            )
        context.progress(1, 1)
        return {CAPTION.name: caption}
