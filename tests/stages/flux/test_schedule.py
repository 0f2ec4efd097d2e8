"""Heun's schedule and integration against the reference's (tests/golden/flux_heun.npz)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.flux.latents import image_ids, pack, unpack
from stages.flux.schedule import NoiseLevels, integrate, noisy_start


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    with np.load(Path(__file__).resolve().parents[2] / "golden" / "flux_heun.npz") as data:
        return dict(data)


@pytest.mark.parametrize("steps", [20, 30])
def test_the_noise_levels_are_the_references(golden: Mapping[str, np.ndarray], steps: int) -> None:
    levels = np.array(NoiseLevels.heun(steps, 1.0).sigmas)
    doubled = [levels[:1], np.repeat(levels[1:-1], 2), levels[-1:]]
    np.testing.assert_allclose(np.concatenate(doubled), golden[f"sigmas_{steps}"], atol=1e-6)


def test_strength_095_skips_the_first_of_20_steps() -> None:
    schedule = NoiseLevels.heun(20, 0.95)
    assert (schedule.first, schedule.steps, schedule.evaluations) == (1, 19, 37)
    assert schedule.start == pytest.approx(0.981875, abs=1e-6)


@pytest.mark.parametrize("strength", [0.001, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_any_strength_leaves_at_least_one_step(steps: int, strength: float) -> None:
    schedule = NoiseLevels.heun(steps, strength)
    assert 1 <= schedule.steps <= steps


def test_the_trajectory_is_the_references(golden: Mapping[str, np.ndarray]) -> None:
    matrix = torch.from_numpy(golden["toy_W"])

    def velocity(state: torch.Tensor, sigma: float, evaluation: int) -> torch.Tensor:
        assert evaluation == len(given)
        given.append(state)
        return torch.einsum("ij,bjhw->bihw", matrix, torch.tanh(state)) * (0.5 + sigma)

    given: list[torch.Tensor] = []
    schedule = NoiseLevels.heun(20, 0.95)
    latents, noise = (torch.from_numpy(golden[f"img2img_{name}"]) for name in ("init", "noise"))
    start = noisy_start(latents, noise, schedule.start)
    np.testing.assert_allclose(start, golden["img2img_start"], atol=1e-6)
    steps = list(integrate(velocity, start, schedule))
    states = torch.stack([*given[1:], steps[-1]])  # predictions and steps in turn
    np.testing.assert_allclose(states, golden["img2img_trajectory"], atol=1e-4)
    assert (len(given), len(steps)) == (37, 19)
    assert all(torch.equal(one, two) for one, two in zip(steps, given[2::2], strict=False))


@pytest.mark.parametrize("reuse", [False, True])
def test_both_samplers_are_of_second_order(reuse: bool) -> None:
    """On dx/dsigma = x the error falls by about four when the step is halved."""

    def error(steps: int) -> float:
        levels = (*np.linspace(1.0, 0.0, steps + 1)[:-1].tolist(), 1e-9, 0.0)
        start = torch.ones(1, dtype=torch.float64)
        *_, last = integrate(lambda state, *_: state, start, NoiseLevels(levels, reuse=reuse))
        return abs(float(last) - np.exp(-1.0))

    assert 3.0 < error(20) / error(40) < 5.0  # 4.08 and 4.0; of first order it is 2, of third 8


def test_reuse_evaluates_once_at_each_level() -> None:
    levels: list[float] = []

    def velocity(state: torch.Tensor, sigma: float, evaluation: int) -> torch.Tensor:
        assert evaluation == len(levels)
        levels.append(sigma)
        return -state

    schedule = NoiseLevels.heun(20, 0.95, reuse=True)
    states = list(integrate(velocity, torch.ones(1), schedule))
    assert levels == list(schedule.sigmas[1:-1])
    assert len(states) == schedule.evaluations == 19


def test_a_single_step_is_eulers_with_either_sampler() -> None:
    for reuse in (False, True):
        schedule = NoiseLevels.heun(1, 1.0, reuse)
        (state,) = integrate(lambda state, *_: state, torch.ones(1), schedule)
        assert (float(state), schedule.evaluations) == (0.0, 1)


def test_packing_orders_a_token_by_channel_row_column() -> None:
    latents = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 2, 4, 6)
    tokens = pack(latents)
    assert tokens.shape == (1, 6, 8)
    expected = [latents[0, c, 2 + dy, 4 + dx] for c in (0, 1) for dy in (0, 1) for dx in (0, 1)]
    assert tokens[0, 5].tolist() == [float(value) for value in expected]
    assert torch.equal(unpack(tokens, 4, 6), latents)


def test_image_ids_are_zero_row_column() -> None:
    ids = image_ids(4, 6, "cpu")
    assert ids.tolist() == [[0, row, column] for row in range(2) for column in range(3)]
