"""The thicknesses of which the network says how likely each is."""

from __future__ import annotations

import numpy as np

BINS = 24
NEAR = (2.5, 3.5)
"""Bins from a thickness's median up to which they count wholly, and from which on not at all."""


def thickness_bins() -> np.ndarray:
    """(BINS,) float32, 0 to 2.2: even in log(t + 0.1), so that thin things are told apart."""
    steps = np.arange(BINS) * (np.log(23.0) / (BINS - 1))
    return np.asarray(0.1 * (np.exp(steps) - 1.0), np.float32)


def told_thickness(likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) float32 thicknesses about the medians of (S, S, BINS) float32 shares, and the share
    within a quarter of them, both float32.

    The network shares a thickness between the two bins beside it, so it is told by the mean of the
    bins round about the median. The median itself goes from bin to bin in steps.
    """
    bins = thickness_bins()
    below = likely.cumsum(axis=-1)
    index = np.minimum((below < 0.5).sum(axis=-1), BINS - 1)
    share = np.maximum(np.take_along_axis(likely, index[..., None], -1)[..., 0], 1e-6)
    before = np.take_along_axis(below, index[..., None], -1)[..., 0] - share
    median = index - 0.5 + np.clip((0.5 - before) / share, 0.0, 1.0)
    apart = np.abs(np.arange(BINS, dtype=np.float32) - median[..., None].astype(np.float32))
    near = np.interp(apart, NEAR, (1.0, 0.0)).astype(np.float32) * likely
    place = (near * np.arange(BINS, dtype=np.float32)).sum(axis=-1) / near.sum(axis=-1)
    told = np.interp(place, np.arange(BINS), bins)
    width = (0.25 * told + 0.02)[..., None]
    within = np.exp(-np.square((bins - told[..., None]) / width))
    return told.astype(np.float32), (within * likely).sum(axis=-1).astype(np.float32)
