"""Pictures of what Flux is drawing: rough, few, and of no consequence for what it draws."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from devtools.tiny import flux as tiny
from devtools.tiny.flux_jobs import context, job_inputs, run
from stages.flux import previews
from stages.flux.previews import clean_guess, picture, steps_to_show


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.build_all(tmp_path)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))


@pytest.mark.parametrize("sampler", ["heun", "heun_pec"])
def test_the_bundle_is_the_same_to_the_last_bit_with_and_without(sampler: str) -> None:
    shown: dict[str, np.ndarray] = {}
    watched = context(previews=2, preview=shown.__setitem__)
    params = {"steps": 6, "strength": 1.0, "sampler": sampler}
    with_pictures = run(job_inputs(), watched, **params)
    assert list(shown) == ["step-002", "step-004"]
    assert {(one.shape, one.dtype) for one in shown.values()} == {((8, 16, 3), np.dtype(np.uint8))}
    assert with_pictures.tobytes() == run(job_inputs(), **params).tobytes()


def test_nothing_is_computed_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a picture that nobody wants")

    monkeypatch.setattr("stages.flux.engine.picture", never)
    run(job_inputs())


@pytest.mark.parametrize("steps", [1, 2, 3, 19, 20])
@pytest.mark.parametrize("count", [0, 1, 4, 50])
def test_pictures_are_spread_over_the_steps_but_the_last(steps: int, count: int) -> None:
    shown = sorted(steps_to_show(steps, count))
    assert len(shown) <= min(count, steps - 1)
    assert all(0 < step < steps for step in shown)
    if count < steps - 1:
        gaps = [after - before for before, after in itertools.pairwise([0, *shown, steps])]
        assert max(gaps) - min(gaps) <= 1
        assert len(shown) == count


def test_the_guess_is_where_a_straight_way_ends() -> None:
    clean, noise = torch.randn(2, 1, 8, 64).unbind()
    before, after = ((1.0 - sigma) * clean + sigma * noise for sigma in (0.9, 0.7))
    torch.testing.assert_close(clean_guess(before, after, 0.9, 0.7), clean, atol=1e-4, rtol=0.0)


def test_a_picture_is_linear_in_the_latents_and_kept_in_range() -> None:
    latents = torch.zeros(1, 16, 2, 4)
    grey = picture(latents)
    assert grey.shape == (2, 4, 3)
    assert np.abs(grey.astype(int) - 120).max() <= 6, "the bias is small"
    latents[:, 12], latents[:, 13] = 4.0, -4.0  # what the map makes bright
    assert (picture(latents) > grey + 60).all()
    assert (picture(latents * 100.0) == 255).all()
    assert (picture(torch.full((1, 16, 2, 4), float("nan"))) <= 255).all()
    assert len(previews._FACTORS) == 16


@pytest.mark.parametrize("channels", [1, 3, 4, 32])
def test_another_autoencoder_s_latents_are_shown_too(channels: int) -> None:
    assert picture(torch.randn(1, channels, 2, 4)).shape == (2, 4, 3)
