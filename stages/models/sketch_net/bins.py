"""The thicknesses of which the network says how likely each is."""

from __future__ import annotations

import numpy as np

BINS = 24


def thickness_bins() -> np.ndarray:
    """(BINS,) float32, 0 to 2.2: even in log(t + 0.1), so that thin things are told apart."""
    steps = np.arange(BINS) * (np.log(23.0) / (BINS - 1))
    return np.asarray(0.1 * (np.exp(steps) - 1.0), np.float32)
