"""A coarse share of the object brought to the picture's own edges: the guided filter.

He, Sun, Tang, "Guided Image Filtering", IEEE TPAMI 35 (2013), equations 19 to 21: within each
window the share is a linear function of the colours, which follows their edges. OpenCV's own is
in a module that its package without windows lacks.
"""

from __future__ import annotations

import cv2
import numpy as np

EPSILON = 1e-3
"""Variance of colours in [0, 1] below which a window counts as flat; the paper's range is 1e-4 to
1e-2."""


def guided_filter(share: np.ndarray, rgb: np.ndarray, radius: int) -> np.ndarray:
    """(h, w) float32 in [0, 1]: `share` (h, w) float32 with the edges of `rgb` (h, w, 3) uint8.

    radius: of the windows, in pixels, at least 1.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        size = (2 * radius + 1,) * 2
        averaged: np.ndarray = cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_REFLECT)
        return averaged

    colours = rgb.astype(np.float32) / 255.0
    height, width = share.shape
    middle, level = mean(colours), mean(share)
    with_share = mean(colours * share[..., None]) - middle * level[..., None]
    pairs = [mean(colours[..., i] * colours[..., j]) for i in range(3) for j in range(3)]
    spread = np.stack(pairs, axis=-1).reshape(height, width, 3, 3)
    spread -= middle[..., :, None] * middle[..., None, :]
    spread += EPSILON * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(spread, with_share[..., None])[..., 0]
    offset = level - np.einsum("hwc,hwc->hw", slope, middle)
    told = np.einsum("hwc,hwc->hw", mean(slope), colours) + mean(offset)
    return np.clip(told, 0.0, 1.0).astype(np.float32)
