"""Words, an embedding of them and a drawing: a long node on the CPU before two on a card."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from stages import contract
from stages.contract import ArtifactSpec, Context, Params, Stage

NUMBERS = ArtifactSpec("numbers", "array", "what was in the input", ("N",), "float32")
WORDS = ArtifactSpec("words", "text", "the first number, in words")
EMBEDDING = ArtifactSpec("embedding", "text", "of the words")
DRAWN = ArtifactSpec("drawn", "text", "what the words say")


class WordsParams(Params):
    until: str = Field("", description="wait until this file exists")
    only_for: float = Field(0.0, description="wait only if the first number is")


class Words(Stage):
    """Stands for the caption."""

    name = "fake.words"
    summary = "a number, in words"
    inputs = (NUMBERS,)
    outputs = (WORDS,)
    Params: ClassVar[type[contract.Params]] = WordsParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        first, params = float(inputs["numbers"][0]), self.params
        while params.until and first == params.only_for and not Path(params.until).exists():
            time.sleep(0.02)
        return {"words": f"number {first:g}"}


class Embed(Stage):
    """Stands for the encoders of the text."""

    name = "fake.embed"
    summary = "words, embedded"
    inputs = (WORDS,)
    outputs = (EMBEDDING,)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        return {"embedding": inputs["words"][::-1]}


class DrawParams(Params):
    began: str = Field("", description="make this file")


class Draw(Stage):
    """Stands for Flux."""

    name = "fake.draw"
    summary = "a drawing of what is embedded"
    inputs = (EMBEDDING,)
    outputs = (DRAWN,)
    Params: ClassVar[type[contract.Params]] = DrawParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        if self.params.began:
            Path(self.params.began).touch()
        return {"drawn": inputs["embedding"][::-1]}
