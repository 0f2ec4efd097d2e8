"""Colours of some pixels, spread over all others."""

from __future__ import annotations

import cv2
import numpy as np


def spread(image: np.ndarray, weight: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """(H, W, C) float32: `image` where `weight` (H, W) in [0, 1], not all 0, says that it counts,
    blurred there and spread over the whole picture.

    Normalised convolution over a pyramid: each pixel takes the finest level that sees weight.
    """
    weighted, share = image * weight[..., None], weight
    if sigma > 0:
        weighted = cv2.GaussianBlur(weighted, (0, 0), sigma)
        share = cv2.GaussianBlur(share, (0, 0), sigma)
    size = (image.shape[1], image.shape[0])
    result = np.zeros_like(image)
    left = np.ones(image.shape[:2], np.float32)
    while True:
        big_share = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)
        big = cv2.resize(weighted, size, interpolation=cv2.INTER_LINEAR)
        here = left * np.clip(big_share * 4.0, 0.0, 1.0)
        result += here[..., None] * big / np.maximum(big_share, 1e-6)[..., None]
        left = left - here
        if min(share.shape) <= 2 or not left.any():
            break
        weighted, share = cv2.pyrDown(weighted), cv2.pyrDown(share)
    channels = image.shape[2]
    mean = np.average(image.reshape(-1, channels), axis=0, weights=weight.ravel())
    return np.asarray(result + left[..., None] * mean, np.float32)
