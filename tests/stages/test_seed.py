"""A stage that says it does without the seed gives the same bytes with every seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devtools.fakes.tools import ROOT
from devtools.pictures import compose, disc, file_of, grid, shaded
from devtools.solids import animal, bundle_of
from devtools.tiny.encoders import build_flux_text, build_redux
from devtools.tiny.flux import build_lora
from devtools.tiny.prm import build_prm
from devtools.tiny.text import build_florence
from stages.contract import Context, Mesh, Params, Stage
from stages.contract.registry import BUILT_IN, stage_class
from stages.geometry.bundle import split
from stages.prompt.stage import Prompt, PromptParams

SEEDS = (0, 20_260_101)
SKETCH = ("preprocess", "inflate", "hull.reference", "hull.reconstruct")
"""Stages without the seed in an order in which each finds what it reads."""
SMALL: Mapping[str, Mapping[str, Any]] = {
    "preprocess": {"size": 256},
    "inflate": {"grid": 96},
    "hull.reconstruct": {"resolution": 48},
    "caption": {"max_new_tokens": 8},
    "prm.reference": {"resolution": 24},
    "prm.reconstruct": {"resolution": 24},
}


def textured() -> bytes:
    """A disc on a ground that only GrabCut, which draws random numbers, can tell from it."""
    x, y = grid(200)
    noise = np.random.default_rng(4).uniform(40, 220, (200, 200))
    ground = (noise + 30 * np.sin(9 * x + 7 * y))[..., None] * np.array([0.35, 0.8, 0.4])
    return file_of(compose(disc(200, 0.5), shaded(200), ground))


def as_bytes(value: object) -> bytes:
    if isinstance(value, Mesh):
        return value.vertices.tobytes() + value.faces.tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    assert isinstance(value, str)
    return value.encode()


def test_an_easy_picture_is_cut_out_to_the_same_bytes(tmp_path: Path) -> None:
    values = {"input_image": (ROOT / "examples" / "mug.png").read_bytes()}
    assert_seedless(stage_class("preprocess"), values, tmp_path)


def test_seedless_stages_of_sketch_give_the_same_bytes(tmp_path: Path) -> None:
    values: dict[str, Any] = {"input_image": textured()}
    for name in SKETCH:
        assert_seedless(stage_class(name), values, tmp_path)
        if name == "hull.reference":
            values["bundle"] = values["reference_bundle"]


def test_seedless_stages_with_models_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for build in (build_florence, build_flux_text, build_redux, build_lora, build_prm):
        build(tmp_path)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    bundle = bundle_of(animal())
    values = {
        "image": np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8),
        "prompt": "a red vase",
        "bundle": bundle,
        "views": np.rint(split(bundle)[0] * 255.0).astype(np.uint8),
    }
    for name in ("caption", "encode", "prm.reference", "prm.reconstruct"):
        assert_seedless(stage_class(name), values, tmp_path)


def assert_seedless(cls: type[Stage], values: dict[str, Any], scratch: Path) -> None:
    """Run a stage with two seeds on those of `values` that it reads; add what it made to them."""
    params = cls.Params.model_validate(SMALL.get(cls.name, {}))
    assert not cls.uses_seed(params)
    first, second = (outputs(cls(params), values, seed, scratch) for seed in SEEDS)
    assert first.keys() == second.keys()
    for output in first:
        assert as_bytes(first[output]) == as_bytes(second[output]), f"{cls.name}: {output}"
    values.update(first)


def outputs(stage: Stage, values: Mapping[str, Any], seed: int, scratch: Path) -> Mapping[str, Any]:
    context = Context(seed=seed, scratch=scratch, threads=1)
    stage.load(context)
    made = stage.run({s.name: values[s.name] for s in stage.inputs if s.name in values}, context)
    stage.close()
    return made


def test_the_stages_that_draw_random_numbers_are_these() -> None:
    classes = {name: stage_class(name) for name in BUILT_IN}
    seeded = {name for name, cls in classes.items() if cls.uses_seed(cls.Params())}
    assert seeded == {"zero123plus", "flux"}
    assert Prompt.uses_seed(PromptParams(enabled=True))
    assert not Prompt.uses_seed(PromptParams(enabled=False)), "the caption is passed on"


def test_a_stage_that_says_nothing_depends_on_the_seed() -> None:
    assert Stage.uses_seed(Params())
