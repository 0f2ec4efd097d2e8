"""The cache of evaluations: what it skips, what it may not, and what it keeps of a control image.

The tiny nets are random, and smooth in state and noise level: that is all that is asked of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from devtools.tiny.flux_jobs import context, job_inputs, run
from stages.contract import StageError
from stages.flux import budget, cached_velocity
from stages.flux.cached_velocity import CachedNets
from stages.flux.first_block_cache import FirstBlockCache
from stages.flux.params import FluxParams
from stages.flux.stage import Flux

LONG: dict[str, Any] = {"steps": 20, "strength": 1.0, "lora_scale": 0.0}
NOTHING = 1e-9
"""A threshold below any change: everything is computed, by the nets in parts."""
TWO = [{"end": 0.5}, {"mode": "gray", "start": 0.3, "end": 0.9}]


@pytest.fixture(autouse=True)
def models(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(built))


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return job_inputs()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def skipped(inputs: dict[str, np.ndarray], **params: Any) -> tuple[np.ndarray, int]:
    """The bundle, and how many evaluations it says that were skipped."""
    said: list[str] = []

    def warn(text: str, *, degraded: bool = False) -> None:
        assert degraded
        said.append(text)

    bundle = run(inputs, context(warn=warn), **params)
    return bundle, int(said[0].split()[0]) if said else 0


# --- nothing skipped ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["heun", "heun_pec"])
@pytest.mark.parametrize("controlnet", [[], [{}], TWO], ids=["none", "one", "two"])
@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_where_nothing_is_skipped_the_bundle_is_the_plain_one_to_the_bit(
    inputs: dict[str, np.ndarray], sampler: str, controlnet: Any, placement: str
) -> None:
    params = {
        "sampler": sampler,
        "controlnet": controlnet,
        "placement": placement,
        "lora_merge": True,
    }
    found, count = skipped(inputs, cache=NOTHING, **params)
    assert count == 0
    np.testing.assert_array_equal(found, run(inputs, **params))


def test_the_threshold_zero_skips_nothing_even_where_nothing_changes() -> None:
    cache = FirstBlockCache(0.0, [frozenset()] * 3, reuse=True)
    for number in range(3):
        assert not cache.skips(number, torch.ones(4))
        cache.keep(number, torch.ones(4), torch.ones(4))
    assert cache.skipped == 0


# --- what is skipped ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["heun", "heun_pec"])
def test_the_lower_the_threshold_the_nearer_the_plain_result(
    inputs: dict[str, np.ndarray], sampler: str
) -> None:
    plain = run(inputs, sampler=sampler, **LONG)
    off, counts = [], []
    for threshold in (0.5, 0.1, 0.05, 0.02, 0.005):
        bundle, count = skipped(inputs, sampler=sampler, cache=threshold, **LONG)
        off.append(relative(bundle, plain))
        counts.append(count)
    assert counts == sorted(counts, reverse=True)
    assert counts[2] > 4 > counts[-1]
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.1 * off[0]  # 0.000 and 0.011


def test_with_many_steps_most_are_skipped_at_a_small_threshold(
    inputs: dict[str, np.ndarray],
) -> None:
    """The changes from step to step shrink with their number, and so does the error."""
    many = {**LONG, "steps": 120, "sampler": "heun_pec"}
    plain = run(inputs, **many)
    bundle, count = skipped(inputs, cache=0.03, **many)
    assert count > 50  # of 120: 69
    assert relative(bundle, plain) < 0.005  # 0.0012


def test_the_control_image_acts_as_it_does_without_a_cache(
    inputs: dict[str, np.ndarray],
) -> None:
    """From pure noise the reference bundle enters by ControlNet alone: how much a change of it
    changes the result."""
    params = {**LONG, "sampler": "heun_pec", "controlnet": [{"end": 1.0}]}
    other = {**inputs, "reference_bundle": 1.0 - inputs["reference_bundle"]}

    def influence(**more: Any) -> np.ndarray:
        return run(other, **params, **more) - run(inputs, **params, **more)

    plain, cached = influence(), influence(cache=0.1)
    assert float(np.abs(plain).max()) > 1e-3
    assert skipped(inputs, cache=0.1, **params)[1] > 6
    assert relative(cached, plain) < 0.2  # 0.055; 1 where it is lost or counted twice


def test_a_cache_that_forgot_the_control_image_would_be_seen(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above, of a cache that goes by the transformer alone and drops the rest of
    ControlNet's residuals."""
    params = {**LONG, "sampler": "heun_pec", "controlnet": [{"end": 1.0}]}
    other = {**inputs, "reference_bundle": 1.0 - inputs["reference_bundle"]}
    plain = run(other, **params) - run(inputs, **params)
    monkeypatch.setattr(cached_velocity, "_added_up", lambda heads: ([], []))
    broken = run(other, **params, cache=0.1) - run(inputs, **params, cache=0.1)
    assert relative(broken, plain) > 0.4  # 0.9


# --- what is not ----------------------------------------------------------------------------------


class Recorded(FirstBlockCache):
    """Notes which evaluations were computed whole."""

    def keep(self, evaluation: int, first: torch.Tensor, tail: torch.Tensor) -> None:
        WHOLE.append(evaluation)
        super().keep(evaluation, first, tail)


WHOLE: list[int] = []


@pytest.mark.parametrize(
    ("sampler", "end", "whole"),
    [
        # 20 evaluations: the control acts in 0 to 9.
        ("heun_pec", 0.5, [0, 9, 10]),
        # 39 evaluations, 2 a step: it acts in 0 to 18, so it ends within step 9. Its last whole
        # step is 8, and 10 the first without.
        ("heun", 0.5, [0, 1, 16, 17, 18, 19, 20, 21]),
        # In 0 to 17, up to the end of step 8.
        ("heun", 0.47, [0, 1, 16, 17, 18, 19]),
    ],
)
def test_nothing_is_skipped_where_a_control_ends(
    inputs: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    end: float,
    whole: list[int],
) -> None:
    """With a threshold that skips all that may be skipped."""
    WHOLE.clear()
    monkeypatch.setattr("stages.flux.engine.FirstBlockCache", Recorded)
    run(inputs, **LONG, sampler=sampler, controlnet=[{"end": end}], cache=1.0)
    assert whole == [number for number in WHOLE if number in range(max(whole) + 1)]


def test_heuns_second_evaluation_is_finished_from_a_second_one() -> None:
    """Both of a step have tails of their own: the second's is not the first's, whose slope it is to
    correct."""
    cache = FirstBlockCache(0.5, [frozenset()] * 9, reuse=False)
    ones = torch.ones(4)
    for number in (0, 1):
        assert not cache.skips(number, ones)
        cache.keep(number, ones, torch.full((4,), float(number)))
    for number in range(2, 9):
        assert cache.skips(number, ones)
        assert cache.tail(number)[0] == number % 2


def test_heuns_second_evaluation_does_as_the_first_did() -> None:
    cache = FirstBlockCache(0.1, [frozenset()] * 8, reuse=False)
    firsts = [1.0, 1.0, 1.01, 9.0, 2.0, 1.0, 2.01, 2.0]
    done = []
    for number, value in enumerate(firsts):
        first = torch.full((4,), value)
        done.append(not cache.skips(number, first))
        if done[-1]:
            cache.keep(number, first, first)
    assert done == [True, True, False, False, True, True, False, False]


def test_changes_add_up_until_one_is_computed() -> None:
    """What is compared with is the last evaluation that was computed, not the last one."""
    cache = FirstBlockCache(0.1, [frozenset()] * 9, reuse=True)
    done = []
    for number in range(9):
        first = torch.full((4,), 1.04**number)
        done.append(not cache.skips(number, first))
        if done[-1]:
            cache.keep(number, first, first)
    assert done == [True, False, False, True, False, False, True, False, False]


def test_what_is_not_a_number_is_not_skipped() -> None:
    cache = FirstBlockCache(1.0, [frozenset()] * 2, reuse=True)
    cache.keep(0, torch.ones(4), torch.ones(4))
    assert not cache.skips(1, torch.full((4,), float("nan")))


# --- streamed -------------------------------------------------------------------------------------


def test_what_is_skipped_is_not_streamed(
    inputs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = budget.NetBudget(1_760_000, 10**9, 1_760_000)
    monkeypatch.setattr(budget, "plan_budget", lambda *_: limits)
    moved, bundles = [], []
    for threshold in (0.0, NOTHING, 0.5):
        params = FluxParams(
            **{**LONG, "transformer": "flux1-dev-transformer", "width": 128, "height": 64},
            placement="streamed",
            cache=threshold,
        )
        stage = Flux(params)
        stage.load(context())
        bundles.append(stage.run(inputs, context())["bundle"])
        assert stage.engine is not None
        stats = stage.engine.nets.streamed.stats  # type: ignore[attr-defined]
        assert stats.surprises == 0
        moved.append(stats.link_bytes)
        stage.close()
    np.testing.assert_array_equal(bundles[0], bundles[1])
    assert moved[1] < 1.1 * moved[0]
    # 0.64: of 39 evaluations 30 are skipped but for two blocks of nine, and the two slots had been
    # filled with the next ones.
    assert moved[2] < 0.75 * moved[0]
    resident = run(inputs, **LONG, lora_merge=True, cache=0.5)
    np.testing.assert_allclose(bundles[2], resident, atol=1e-5)


def test_nets_without_double_blocks_are_refused() -> None:
    class Bare:
        transformer_blocks: tuple[()] = ()

    cache = FirstBlockCache(0.1, [], reuse=True)
    with pytest.raises(StageError, match="first double block") as caught:
        CachedNets(Bare(), None, cache, lambda: None).check()
    assert caught.value.kind == "bad_input"


def test_evaluations_that_are_cached_need_more_of_the_card() -> None:
    plain, cached = (
        budget.activation_bytes(3072, 8192, 1241, 2, 0, cached=asked) for asked in (False, True)
    )
    assert cached - plain == budget.CACHE_STATES * (8192 + 1241) * 3072 * 2
