"""Small jobs for the flux stage on the checkpoints of `devtools.tiny.flux`."""

from __future__ import annotations

from typing import Any

import numpy as np

from devtools.tiny import flux as tiny
from stages.contract import Context
from stages.flux.params import FluxParams
from stages.flux.stage import Flux

SMALL: dict[str, Any] = {
    "transformer": "flux1-dev-transformer",
    "width": 128,
    "height": 64,
    "steps": 4,
    "strength": 0.75,
}


def job_inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    coarse = rng.random((8, 16, 3), np.float32)
    return {
        "reference_bundle": np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1),
        "prompt_embeds": rng.standard_normal((7, tiny.TEXT)).astype(np.float32),
        "pooled_embeds": rng.standard_normal(tiny.POOLED).astype(np.float32),
    }


def context(**fields: Any) -> Context:
    """One thread: the tensors are too small for more."""
    return Context(threads=1, **fields)


def run(inputs: dict[str, np.ndarray], within: Context | None = None, **params: Any) -> np.ndarray:
    """The bundle of one job, held to its spec; params beside those of SMALL."""
    within = within or context()
    stage = Flux(FluxParams(**{**SMALL, **params}))
    stage.load(within)
    try:
        bundle = stage.run(inputs, within)["bundle"]
    finally:
        stage.close()
    stage.outputs[0].check(bundle)
    return bundle
