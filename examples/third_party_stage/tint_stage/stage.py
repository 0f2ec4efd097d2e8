"""Tint the object's colours; the white background stays white."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from stages import contract
from stages.contract import ArtifactSpec, BadInput, Context, Stage
from stages.contract.artifacts import ALPHA, IMAGE

if TYPE_CHECKING:
    import numpy as np

TINTED = ArtifactSpec("tinted", "image", "the tinted picture, sRGB", ("S", "S", 3), "uint8")


class TintParams(contract.Params):
    """Which colour, and how much of it."""

    color: tuple[int, int, int] = Field((80, 120, 255), description="sRGB, 0 to 255 each")
    strength: float = Field(0.4, ge=0.0, le=1.0, description="0 leaves the picture as it is")


class Tint(Stage):
    """Multiplies the object's pixels by a colour."""

    name: ClassVar[str] = "tint"
    summary: ClassVar[str] = "tint the object before it is lifted to 3D"
    inputs: ClassVar[tuple[ArtifactSpec, ...]] = (IMAGE, ALPHA)
    outputs: ClassVar[tuple[ArtifactSpec, ...]] = (TINTED,)
    Params: ClassVar[type[contract.Params]] = TintParams

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        params: TintParams = self.params
        if any(not 0 <= channel <= 255 for channel in params.color):
            raise BadInput(f"color {params.color} is outside 0..255")
        image: np.ndarray = inputs["image"].astype(np.float32)
        weight = params.strength * inputs["alpha"].astype(np.float32) / 255.0
        factor = 1.0 - weight * (1.0 - np.array(params.color, np.float32) / 255.0)
        context.progress(1, 1)
        return {"tinted": np.rint(image * factor).astype(np.uint8)}
