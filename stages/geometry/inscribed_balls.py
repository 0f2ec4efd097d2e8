"""How thick is the object behind each pixel, if it is as deep as it is wide?"""

from __future__ import annotations

import cv2
import numpy as np


def inscribed_balls(inside: np.ndarray) -> np.ndarray:
    """(S, S) float64: thickness of the union of all balls whose middles lie in the picture's plane
    and that nowhere reach beyond the outline; in half widths of the picture, 0 outside.

    A disc's is a ball, and a strip's a cylinder: exact for what is turned about an axis in the
    picture's plane.

    inside  (S, S) bool
    """
    size = len(inside)
    mask = np.pad(inside.astype(np.uint8), 1)  # what the picture's border cuts off ends there
    radius = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # Squared height over pixel p: max over middles m of r(m)^2 - |p - m|^2, by rows, by columns.
    at = np.arange(size, dtype=np.float32)
    away = np.square(at[:, None] - at)
    height = np.where(inside, np.square(radius), -np.inf).astype(np.float32)
    for _ in range(2):
        height = np.stack([(height - far[:, None]).max(axis=0) for far in away], axis=1)
    height = np.where(inside, np.maximum(height, 0.0), 0.0)
    return np.asarray(4.0 / size * np.sqrt(height), np.float64)
