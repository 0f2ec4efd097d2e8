"""Stage "caption": the preprocessed picture -> a paragraph that describes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from stages import contract
from stages.contract import Context, StageError
from stages.contract.artifacts import CAPTION, IMAGE, INPUT_TEXT
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
    """Florence-2's detailed caption of the picture, or what the user says of it: of all pictures in
    the param `text`, of one in the input `input_text`, which comes first.

    The search has no randomness: the result depends on the picture, the params and the dtype. The
    model is loaded when the first picture is to be described, since words may come with each.
    Raises `StageError` of kind missing_weights, and of kind internal for an empty caption.
    """

    name = "caption"
    summary = "describe the picture in words (Florence-2), or take the user's words"
    inputs = (IMAGE, replace(INPUT_TEXT, optional=True))
    outputs = (CAPTION,)
    Params: ClassVar[type[contract.Params]] = CaptionParams
    preload = ("stages.caption.florence",)

    params: CaptionParams

    def __init__(self, params: CaptionParams) -> None:
        super().__init__(params)
        self._given = _one_line(params.text)
        self._model: Florence | None = None

    @classmethod
    def weights(cls, params: CaptionParams) -> tuple[str, ...]:
        return () if params.text.strip() else (params.weights,)

    @classmethod
    def spares_weights(cls, params: CaptionParams, given: Collection[str]) -> bool:
        return INPUT_TEXT.name in given

    @classmethod
    def uses_seed(cls, params: CaptionParams) -> bool:
        return False

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Inputs `image` (S, S, 3) uint8 and perhaps `input_text`; output `caption`, one line."""
        given = _one_line(inputs.get(INPUT_TEXT.name, "")) or self._given
        if given:
            context.progress(1, 1, "given")
            return {CAPTION.name: given}
        caption = self._florence(context).describe(
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

    def _florence(self, context: Context) -> Florence:
        """The model, read once in a process's lifetime."""
        if self._model is None:
            from stages.caption.florence import Florence

            self._model = Florence(find(self.params.weights), context)
        return self._model


def _one_line(text: str) -> str:
    return " ".join(text.split())
