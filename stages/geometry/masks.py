"""Where the object is in a tile, and colours that are safe to sample near its outline."""

from __future__ import annotations

import numpy as np


def foreground(normal_tiles: np.ndarray, tolerance: float, min_island: int) -> np.ndarray:
    """Silhouettes from normal maps on white.

    No surface is white: the encoded normal closest to it, (1, 1, 1) / sqrt(3), is 0.79 in every
    channel. So a pixel that differs from white by more than `tolerance` in any channel is object.

    normal_tiles (K, S, S, 3) float in [0, 1]; specks of fewer than `min_island` pixels, bright on
    dark or dark on bright, are removed. Returns (K, S, S) bool.
    """
    mask = (1.0 - normal_tiles).max(axis=-1) > tolerance
    return np.stack(
        [_without_specks(_without_specks(m, min_island), min_island, True) for m in mask]
    )


def _without_specks(mask: np.ndarray, min_size: int, invert: bool = False) -> np.ndarray:
    from scipy import ndimage

    labels, count = ndimage.label(mask ^ invert)
    if count == 0:
        return mask
    small = np.bincount(labels.ravel()) < min_size
    small[0] = False
    return np.asarray(mask ^ small[labels])


def mask_fix(mask: np.ndarray, erode_dilate: int = 0, blur: int = 0) -> np.ndarray:
    """Grow or shrink masks, then soften their outline (the reference's `mask_fix`).

    mask (K, S, S) float in [0, 1]; erode_dilate is the side of the square window in pixels,
    negative to erode, positive to dilate; blur the size of the Gaussian window (an even one is
    increased by 1), 0 for none. Returns (K, S, S) float64.
    """
    from scipy import ndimage

    fixed = np.asarray(mask, np.float64)
    if erode_dilate:
        side = abs(erode_dilate)
        change = ndimage.grey_erosion if erode_dilate < 0 else ndimage.grey_dilation
        fixed = change(fixed, size=(1, side, side))
    if blur:
        taps = _gaussian_taps(blur + 1 - blur % 2)
        for axis in (1, 2):
            fixed = ndimage.correlate1d(fixed, taps, axis=axis, mode="mirror")
    return np.asarray(fixed)


def _gaussian_taps(size: int) -> np.ndarray:
    sigma = 0.3 * ((size - 1) * 0.5 - 1.0) + 0.8
    steps = np.arange(size) - (size - 1) / 2
    taps = np.exp(-0.5 * (steps / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def spread_colors(rgb: np.ndarray, mask: np.ndarray, margin: int) -> np.ndarray:
    """Replace the background, and the outermost `margin` pixels, by the nearest inner colour.

    Pixels at the outline are mixed with the white background; sampled as they are, they leave a
    light rim on the mesh wherever two views meet. A tile whose mask is thinner than the margin
    keeps as much margin as it can.

    rgb (K, S, S, 3) float, mask (K, S, S) bool; returns the like of rgb.
    """
    from scipy import ndimage

    spread = rgb.copy()
    for tile, inside in zip(spread, mask, strict=True):
        if not inside.any():
            continue
        depth = ndimage.distance_transform_edt(inside)
        # A thin part would vanish under a fixed margin: it keeps the pixels of its middle line.
        ridge = depth >= ndimage.maximum_filter(depth, 2 * margin + 1)
        core = inside & ((depth > margin) | ridge)
        tile[...] = nearest_known(tile, core)
    return spread


def nearest_known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`values` (S, S, ...), outside of `known` (S, S) bool, not empty, those of the nearest pixel
    within it."""
    from scipy import ndimage

    rows, columns = ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    return np.ascontiguousarray(values[rows, columns])
