"""From how likely each thickness is to one thickness and how sure it is."""

from __future__ import annotations

import numpy as np

from stages.models.sketch_net.bins import thickness_bins

ROUGHLY = 0.8
"""Logarithm of the factor by which a guess is off as a rule."""
SMALL = 0.1
"""Half widths: differences of thickness count less below it, as in `thickness_bins`."""


def near_a_guess(likely: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """(S, S, BINS) shares, weighted by how well each thickness fits to (S, S) `guess`, which is off
    by any factor now and then: Cauchy's distribution of its logarithm. What the shares are sure of,
    stays; what they leave open, the guess settles.
    """
    off = np.log(thickness_bins() + SMALL) - np.log(guess + SMALL)[..., None]
    fit = likely / (1.0 + np.square(off / ROUGHLY))
    return np.asarray(fit / fit.sum(axis=-1, keepdims=True), np.float32)


def most_likely(likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) medians of (S, S, BINS) shares, and the share within a quarter of them."""
    bins = thickness_bins()
    below = likely.cumsum(axis=-1)
    # A bin's share is spread between the middles of its neighbours.
    edges = np.concatenate([bins[:1], (bins[1:] + bins[:-1]) / 2.0, bins[-1:]])
    index = np.minimum((below < 0.5).sum(axis=-1), len(bins) - 1)
    share = np.maximum(np.take_along_axis(likely, index[..., None], -1)[..., 0], 1e-6)
    before = np.take_along_axis(below, index[..., None], -1)[..., 0] - share
    part = np.clip((0.5 - before) / share, 0.0, 1.0)
    median = edges[index] + part * (edges[index + 1] - edges[index])
    near = np.exp(-np.square((bins - median[..., None]) / (0.25 * median + 0.02)[..., None]))
    return median.astype(np.float32), (near * likely).sum(axis=-1).astype(np.float32)
