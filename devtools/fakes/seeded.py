"""A stage that draws from the seed and needs no weights: for runs of several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.contract import ArtifactSpec, Context, Stage
from stages.contract.artifacts import IMAGE


class Seeded(Stage):
    """Hands a picture on in other colours, unless the seed is a multiple of 3."""

    name = "fake.seeded"
    summary = "the picture in other colours, by the seed"
    inputs = (IMAGE,)
    outputs = (ArtifactSpec("recoloured", "image", "the picture", ("S", "S", 3), "uint8"),)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        import numpy as np

        image = np.array(inputs["image"])
        moved = (image.astype(int) + 50 * (context.seed % 3)) % 256
        return {"recoloured": np.where(image == 255, image, moved).astype(np.uint8)}
