"""Places for charts in a square of texels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELL = 4
"""Side in texels of the cells that charts are stacked in."""
GUTTER = 1
"""Cells around each chart that stay free; so two charts lie 8 texels or more apart, and the first
levels of a mip-map mix nothing."""
TRIES = 12
FULLEST = 0.85
"""Share of the square that charts could cover at best: where the search for the scale starts."""
LEAST_SCALE = 0.02
"""Share of that scale below which a texture shows nothing any more."""


class DoesNotFitError(ValueError):
    """So many charts that not even tiny ones find room."""


@dataclass(frozen=True)
class Places:
    """corners  (F, 3, 2) float64, texel coordinates (column, row) of each face's corners, row 0 at
             the top
    turned   (C,) bool: charts that lie turned by a quarter, their up to the right
    scale    texels per unit of the surface
    """

    corners: np.ndarray
    turned: np.ndarray
    scale: float


def pack(flat: np.ndarray, chart: np.ndarray, size: int) -> Places:
    """Scale all charts alike, as large as they fit into `size` x `size` texels.

    flat (F, 3, 2) float64, corners in the plane of their chart, x right and y up; chart (F,) int,
    0 to C - 1. Raises DoesNotFitError.
    """
    count = int(chart.max()) + 1
    low = np.full((count, 2), np.inf)
    high = np.full((count, 2), -np.inf)
    np.minimum.at(low, chart, flat.min(axis=1))
    np.maximum.at(high, chart, flat.max(axis=1))
    local = flat - low[chart][:, None]
    extent = np.maximum(high - low, 1e-9)
    # The longer side lies across: stacking likes flat charts.
    upright = extent[:, 1] > extent[:, 0]
    local = np.where(upright[chart][:, None, None], _quarter_turn(local, extent[chart]), local)
    extent = np.where(upright[:, None], extent[:, ::-1], extent)

    area = np.abs(_double_area(flat)).sum() / 2.0
    largest = size * np.sqrt(FULLEST / max(area, 1e-12))
    largest = min(largest, (size - 2 * CELL * (GUTTER + 1)) / extent.max())
    chart = np.ascontiguousarray(chart, np.int64)
    fits, fails = 0.0, np.inf
    scale, best = largest, None
    for _ in range(TRIES):
        found = _stacked(local, extent, chart, scale, size)
        if found is None:
            fails = scale
        else:
            fits, best = scale, found
        if fits and (fails - fits) < 0.02 * fits:
            break
        if scale == largest and fits:
            break
        scale = (fits + fails) / 2.0 if fits else scale * 0.85
        if scale < LEAST_SCALE * largest:
            break
    if best is None:
        raise DoesNotFitError(f"{count} charts do not fit into {size} x {size} texels")
    # x and y are now columns and rows counted from the bottom.
    texels = local * fits + best[chart][:, None]
    texels[..., 1] = size - texels[..., 1]
    return Places(texels, upright, fits)


def _stacked(
    local: np.ndarray, extent: np.ndarray, chart: np.ndarray, scale: float, size: int
) -> np.ndarray | None:
    """(C, 2) where the charts' lower left corners go, in texels; None if they do not fit."""
    from stages.isomer.texture.kernels import profiles, stack

    side = size // CELL
    margin = GUTTER * CELL
    x = np.ascontiguousarray(local[..., 0] * scale + margin)
    y = np.ascontiguousarray(local[..., 1] * scale + margin)
    width = ((extent[:, 0] * scale + 2 * margin) / CELL).astype(np.int64) + 1
    starts = np.concatenate([[0], np.cumsum(width)])
    low = np.full(starts[-1], np.iinfo(np.int32).max // 2, np.int32)
    high = np.full(starts[-1], -1, np.int32)
    profiles(x, y, chart, starts, low, high, float(CELL))
    low, high = _with_gutter(low, high, starts)
    order = np.argsort(-extent[:, 1], kind="stable")
    column, row = np.zeros((2, len(extent)), np.int32)
    reached = stack(side, order, starts, low, high, column, row)
    if reached < 0 or reached > side:
        return None
    return np.stack([column, row], axis=1) * float(CELL) + margin


def _with_gutter(
    low: np.ndarray, high: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Profiles widened by GUTTER cells each way; a chart's columns already leave room for it."""
    inner = np.ones(len(low) + 1, bool)
    inner[starts[1:-1]] = False  # between the last column of one chart and the first of the next
    for _ in range(GUTTER):
        wide_low, wide_high = low.copy(), high.copy()
        joined = np.flatnonzero(inner[1:-1])
        np.minimum.at(wide_low, joined, low[joined + 1])
        np.minimum.at(wide_low, joined + 1, low[joined])
        np.maximum.at(wide_high, joined, high[joined + 1])
        np.maximum.at(wide_high, joined + 1, high[joined])
        low, high = wide_low, wide_high
    empty = high < 0
    low = np.where(empty, 0, np.maximum(low - GUTTER, 0)).astype(np.int32)
    high = np.where(empty, 0, high + GUTTER).astype(np.int32)
    return low, high


def _quarter_turn(flat: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(F, 3, 2) turned clockwise within boxes of (F, 2), so that nothing is mirrored."""
    return np.stack([flat[..., 1], extent[:, :1] - flat[..., 0]], axis=-1)


def _double_area(flat: np.ndarray) -> np.ndarray:
    one, two = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    return np.asarray(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
