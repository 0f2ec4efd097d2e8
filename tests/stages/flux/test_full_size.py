"""The flux stage at the size, steps and tokens of profile original; only the nets are tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import FluxControlNetModel, FluxTransformer2DModel

from devtools.tiny import flux as tiny
from devtools.tiny.flux_jobs import context
from orchestrator.pipeline import layers
from stages.flux.params import FluxParams
from stages.flux.stage import Flux

TOKENS = 512 + 729
"""T5's and Redux's."""


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "made_by_each"), [("heun", [37, 24]), ("heun_pec", [19, 12])])
def test_original_makes_its_evaluations_at_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, made_by_each: list[int]
) -> None:
    """8192 image tokens beside 1241: 6 s of computing an evaluation on one core."""
    tiny.build_all(tmp_path)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    calls = [count_calls(net, monkeypatch) for net in (FluxTransformer2DModel, FluxControlNetModel)]
    rng = np.random.default_rng(5)
    coarse = rng.random((8, 16, 3), np.float32)
    inputs = {
        "reference_bundle": np.repeat(np.repeat(coarse, 128, axis=0), 128, axis=1),
        "prompt_embeds": rng.standard_normal((TOKENS, tiny.TEXT)).astype(np.float32),
        "pooled_embeds": rng.standard_normal(tiny.POOLED).astype(np.float32),
    }
    params = layers.load("original").profile.nodes["flux"].params
    stage = Flux(FluxParams(**params, sampler=sampler))
    within = context(dtype="bfloat16")
    stage.load(within)
    bundle = stage.run(inputs, within)["bundle"]
    stage.outputs[0].check(bundle)
    assert bundle.shape == (1024, 2048, 3)
    # Of 20 Heun steps strength 0.95 leaves out the first, and the last takes one evaluation; the
    # ControlNet acts in the first 65 percent.
    assert [len(made) for made in calls] == made_by_each


def count_calls(net: Any, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one for each call of `net`."""
    calls: list[None] = []
    forward = net.forward

    def counted(self: Any, *inputs: Any, **named: Any) -> Any:
        calls.append(None)
        return forward(self, *inputs, **named)

    monkeypatch.setattr(net, "forward", counted)
    return calls
