"""Thickness from shares: what they are sure of stays, what they leave open a guess settles."""

from __future__ import annotations

import numpy as np
import pytest

from stages.models.sketch_net.bins import BINS, thickness_bins
from stages.models.sketch_net.thickness import most_likely, near_a_guess


def shares(*peaks: float, width: float = 0.05) -> np.ndarray:
    """(1, 1, BINS): as likely near each of `peaks`."""
    bins = thickness_bins()
    made = sum(np.exp(-np.square((bins - peak) / width)) for peak in peaks)
    return np.asarray(made / np.sum(made), np.float32)[None, None]


def guess(value: float) -> np.ndarray:
    return np.full((1, 1), value)


def test_the_guess_settles_which_of_two_it_is() -> None:
    open_ = shares(0.3, 1.2)
    for right in (0.3, 1.2):
        thickness, certainty = most_likely(near_a_guess(open_, guess(right)))
        assert thickness[0, 0] == pytest.approx(right, rel=0.25)
        assert certainty[0, 0] > most_likely(open_)[1][0, 0]


def test_what_is_sure_stays() -> None:
    sure = shares(0.5, width=0.02)
    for wrong in (0.05, 2.0):
        thickness, _ = most_likely(near_a_guess(sure, guess(wrong)))
        assert thickness[0, 0] == pytest.approx(0.5, rel=0.15)


def test_shares_stay_shares() -> None:
    even = np.full((2, 3, BINS), 1.0 / BINS, np.float32)
    fit = near_a_guess(even, np.linspace(0.0, 2.5, 6).reshape(2, 3))
    assert fit.dtype == np.float32
    assert np.isfinite(fit).all()
    assert fit.sum(axis=-1) == pytest.approx(1.0, abs=1e-5)
