"""Which profile `auto` takes, by cards and weights."""

from __future__ import annotations

import pytest

from orchestrator.planning import auto_profile
from orchestrator.system.gpu import Gpu
from stages.weights import catalogue

GIB = 1 << 30


class Monitor:
    def __init__(self, *total_gib: float) -> None:
        self._gpus = [
            Gpu(i, "RTX", f"GPU-{i}", int(gib * GIB), 0) for i, gib in enumerate(total_gib)
        ]

    def gpus(self) -> list[Gpu]:
        return self._gpus


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Weights of one's own: call with names to make them exist."""
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(catalogue, "hub_snapshot", lambda model: tmp_path / "no-cache")

    def make(*names: str) -> None:
        for name in names:
            for pattern in catalogue.catalogue()[name].files:
                path = tmp_path / name / pattern.replace("*", "x")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

    return make


MULTIVIEW = ("zero123plus", "flexgen", "prm")
FLUX = (
    "florence-2-large",
    "flux1-dev-text",
    "flux1-redux",
    "flux1-dev-transformer",
    "flux1-dev-vae",
    "flux1-controlnet-union",
    "kiss3dgen-lora",
)


def test_without_a_gpu_it_is_sketch(own):
    own(*MULTIVIEW, *FLUX)
    name, why = auto_profile.choose_profile(Monitor())
    assert name == "sketch"
    assert "no GPU" in why


def test_with_everything_it_is_the_full_one(own):
    own(*MULTIVIEW, *FLUX)
    name, why = auto_profile.choose_profile(Monitor(12))
    assert name == "full_12gb"
    assert "RTX 12 GiB" in why


def test_without_flux_it_is_multiview_only(own):
    own(*MULTIVIEW)
    assert auto_profile.choose_profile(Monitor(12))[0] == "multiview_only"


def test_without_weights_it_is_sketch_and_says_what_is_missing_and_how_to_get_it(own):
    name, why = auto_profile.choose_profile(Monitor(12))
    assert name == "sketch"
    assert "full_12gb lacks weights of " in why
    assert "models pull --profile full_12gb" in why


def test_a_card_that_is_too_small_is_named_as_the_reason(own):
    own(*MULTIVIEW, *FLUX)
    name, why = auto_profile.choose_profile(Monitor(4))
    assert name == "sketch"
    assert "full_12gb needs 6 GiB of VRAM" in why
