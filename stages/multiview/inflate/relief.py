"""Shallow relief from shading: dark creases lie deeper than the bright skin around them."""

from __future__ import annotations

import cv2
import numpy as np

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601 weights, for sRGB values."""
FINE, COARSE = 1.2, 6.0
"""Band of the relief, standard deviations in 320ths of the picture."""


def shading_relief(
    picture: np.ndarray, inside: np.ndarray, thickness: np.ndarray, amplitude: float
) -> np.ndarray:
    """(N, N) float64 offset towards the camera, at most `amplitude` either way, 0 outside.

    picture    (N, N, 3) float32 in [0, 1]
    inside     (N, N) bool
    thickness  (N, N) half-depth; relief fades out where it falls below three amplitudes, so the
               sheets never cross and the rim stays where it is
    """
    scale = len(picture) / 320.0
    luma = picture @ np.array(LUMA, np.float32)
    weight = inside.astype(np.float32)
    band = _blur(luma, weight, FINE * scale) - _blur(luma, weight, COARSE * scale)
    fade = np.clip(thickness / max(3.0 * amplitude, 1e-9), 0.0, 1.0) ** 2
    return np.asarray(amplitude * np.tanh(4.0 * band) * fade * weight, np.float64)


def _blur(image: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    total = cv2.GaussianBlur(image * weight, (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    return np.asarray(total / np.maximum(share, 1e-6))
