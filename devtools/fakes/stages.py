"""A chain of tiny stages for tests: source -> trouble -> sink. Real processes, no mocks."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from devtools.fakes.misbehaviour import Mode, misbehave, start_helpers
from stages import contract
from stages.contract import ArtifactSpec, BadInput, Context, Mesh, Params, Stage, StageError
from stages.contract.artifacts import IMAGE, INPUT_IMAGE, POOLED_EMBEDS, PROMPT_EMBEDS
from stages.weights import catalogue

NUMBERS = ArtifactSpec("numbers", "array", "what was in the input", ("N",), "float32")
TROUBLED = ArtifactSpec("troubled", "array", "numbers + 1", ("N",), "float32")
GLB = ArtifactSpec("glb", "file", "bytes", suffix=".glb")
TOTAL = ArtifactSpec("total", "text", "the sum, as text")


def parse(data: bytes) -> list[float]:
    try:
        return [float(word) for word in data.decode().split()]
    except (UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"not a list of numbers: {error}", "write numbers") from error


class SourceParams(Params):
    repeat: int = Field(1, ge=1, description="how often the numbers are repeated")
    until: str = Field("", description="wait until this file exists")
    seconds: float = Field(0.0, ge=0, description="sleep before returning")
    count_file: str = Field("", description="append one line a run to this file")


class Source(Stage):
    """Reads the input file as a list of numbers, repeated."""

    name = "fake.source"
    summary = "numbers from a text file"
    inputs = (INPUT_IMAGE,)
    outputs = (NUMBERS,)
    Params: ClassVar[type[contract.Params]] = SourceParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        values = parse(inputs["input_image"])
        count(self.params.count_file)
        while self.params.until and not Path(self.params.until).exists():
            time.sleep(0.02)
        pause(self.params.seconds, context)
        return {"numbers": np.tile(np.array(values, np.float32), self.params.repeat)}


class TroubleParams(Params):
    mode: Mode = Field("ok", description="how to misbehave")
    modes: tuple[Mode, ...] = Field((), description="the same for the input's first number, from 0")
    flag: str = Field("", description="misbehave once: then this file is made")
    seconds: float = Field(0.0, ge=0, description="sleep before returning")
    count_file: str = Field("", description="append one line a run to this file")
    only_for: float | None = Field(None, description="misbehave only if the first number is")
    diary: str = Field("", description="append when this ran, where and for how long")
    needs: tuple[str, ...] = Field((), description="weights to find before it works")
    helpers: str = Field("", description="start helpers that write their pids to this file")
    until: str = Field("", description="wait until this file exists")
    company: int = Field(1, ge=1, description="wait until so many processes write the diary")


class Trouble(Stage):
    """Adds one, or does what `mode` says. With `flag` only until that file exists."""

    name = "fake.trouble"
    summary = "adds one, or breaks"
    inputs = (NUMBERS,)
    outputs = (TROUBLED,)
    Params: ClassVar[type[contract.Params]] = TroubleParams

    @classmethod
    def weights(cls, params: Any) -> tuple[str, ...]:
        return tuple(params.needs)

    def load(self, context: Context) -> None:
        for name in self.params.needs:
            catalogue.find(name)
        if self.params.mode.startswith("load_") and self._due():
            misbehave(self.params.mode.removeprefix("load_"), context)
        if self.params.mode == "only_cuda" and context.device != "cpu":
            raise StageError("gpu_unavailable", "pretends that there is no GPU")

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        numbers = inputs["numbers"]
        count(self.params.count_file)
        if self.params.helpers:
            start_helpers(Path(self.params.helpers))
        mine = self.params.only_for is None or float(numbers[0]) == self.params.only_for
        mode, case = self.params.mode, ""
        if self.params.modes:
            mode, case = self.params.modes[int(numbers[0])], str(int(numbers[0]))
        if mine and not mode.startswith("load_") and mode != "only_cuda" and self._due(case):
            special = misbehave(mode, context)
            if special is not None:
                return special
        began = time.monotonic()
        self._wait()
        pause(self.params.seconds, context)
        if self.params.diary:
            card = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            with Path(self.params.diary).open("a") as stream:
                stream.write(f"{os.getpid()} {card or '-'} {began} {time.monotonic()}\n")
        return {"troubled": np.asarray(numbers) + np.float32(1)}

    def _wait(self) -> None:
        """For the file `until`, and for the company."""
        params = self.params
        while params.until and not Path(params.until).exists():
            time.sleep(0.02)
        if params.company > 1:
            Path(f"{params.diary}.{os.getpid()}").touch()
            diary = Path(params.diary)
            while len(list(diary.parent.glob(f"{diary.name}.*"))) < params.company:
                time.sleep(0.02)

    def _due(self, case: str = "") -> bool:
        if not self.params.flag:
            return True
        flag = Path(self.params.flag + case)
        first = not flag.exists()
        flag.touch()
        return first


class Sink(Stage):
    """Sums up."""

    name = "fake.sink"
    summary = "the sum as text"
    inputs = (TROUBLED,)
    outputs = (TOTAL,)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        return {"total": f"{float(inputs['troubled'].sum()):g} seed {context.seed}"}


class Cast(Stage):
    """A "mesh file" for result/."""

    name = "fake.cast"
    summary = "the numbers' bytes as a mesh file"
    inputs = (TROUBLED,)
    outputs = (GLB,)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        body = inputs["troubled"].tobytes()
        return {"glb": struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body}


class SlowSink(Sink):
    """The same, behind an import that takes seconds."""

    name = "fake.slow_sink"
    preload = ("numpy", "devtools.fakes.slow_module")


class Shelling(Sink):
    """The same, behind an import that runs a program and wants to know how that ended."""

    name = "fake.shelling"
    preload = ("devtools.fakes.shelling_module",)


class ShapesParams(Params):
    size: int = Field(4, ge=1, description="side of the image")


class Shapes(Stage):
    """One output of each kind, for the round trip through files and frames."""

    name = "fake.shapes"
    summary = "a mesh, an image, a file"
    inputs = (INPUT_IMAGE,)
    outputs = (
        ArtifactSpec("mesh", "mesh", "a triangle"),
        ArtifactSpec("image", "image", "noise", ("S", "S", 3), "uint8"),
        ArtifactSpec("blob", "file", "bytes", suffix=".bin"),
    )
    Params: ClassVar[type[contract.Params]] = ShapesParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        random = np.random.default_rng(context.seed)
        side = self.params.size
        for number in range(context.previews + 1):  # one more than anybody wants
            context.preview(f"step-{number}", np.full((600, 900, 3), 40 * number, np.uint8))
        context.preview("no picture", np.zeros(3))
        return {
            "mesh": Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32)),
            "image": random.integers(0, 255, (side, side, 3)).astype(np.uint8),
            "blob": bytes(range(256)),
        }


def count(path: str) -> None:
    if path:
        with Path(path).open("a") as stream:
            stream.write(f"{os.getpid()}\n")


def pause(seconds: float, context: Context) -> None:
    steps = max(1, int(seconds / 0.02))
    for step in range(steps):
        time.sleep(seconds / steps)
        context.progress(step + 1, steps)


class EncodeParams(Params):
    tokens: int = Field(7, description="T")
    text: int = Field(32, description="width of a token")
    pooled: int = Field(32, description="width of the pooled vector")


class Encode(Stage):
    """Embeddings of the right shape that mean nothing."""

    name = "fake.encode"
    summary = "random embeddings"
    inputs = (IMAGE,)
    outputs = (PROMPT_EMBEDS, POOLED_EMBEDS)
    Params = EncodeParams
    params: EncodeParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        rng, params = np.random.default_rng(context.seed), self.params
        return {
            "prompt_embeds": rng.standard_normal((params.tokens, params.text), np.float32),
            "pooled_embeds": rng.standard_normal(params.pooled, np.float32),
        }
