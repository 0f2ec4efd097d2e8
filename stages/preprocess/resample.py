"""Changing a picture's resolution."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from stages.preprocess.box import Box


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """`pixels` (H, W[, C]) scaled down so that the longest side is at most `side`."""
    scale = side / max(pixels.shape[:2])
    if scale >= 1.0:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def enlarge_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`mask` (h, w) bool at another resolution (H, W), its outline rounded off."""
    share = cv2.resize(
        mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR
    )
    large: np.ndarray = share > 0.5
    return large


def scaled_crop(pixels: np.ndarray, region: Box, scale: float) -> np.ndarray:
    """`region` of (H, W, C) uint8 pixels, resampled (bicubic, antialiased, alpha-aware)."""
    size = (max(1, round(region.width * scale)), max(1, round(region.height * scale)))
    outer = region.outward()
    part = Image.fromarray(np.ascontiguousarray(pixels[outer.slices]))
    inner = region.moved(-outer.left, -outer.top)
    box = (inner.left, inner.top, inner.right, inner.bottom)
    return np.array(part.resize(size, Image.Resampling.BICUBIC, box=box))
