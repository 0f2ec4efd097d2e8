"""Coarse mask + colours -> alpha and clean object colours.

Around the mask's outline a pixel is a mix C = a F + (1 - a) B of object and background. F and B
are averages of nearby pixels, weighted by how deep they lie inside the object or the background,
so that thin parts still find their own colour. Alpha is the projection of C on the line from B to
F; the object's colour follows by solving for F, which takes the background's tint out of the rim.
"""

from __future__ import annotations

import cv2
import numpy as np

LOW_CONTRAST = 0.06
"""Distance |F - B| (colours in [0, 1]) below which the mask is believed rather than the colours."""


def matte(rgb: np.ndarray, mask: np.ndarray, defringe: bool) -> tuple[np.ndarray, np.ndarray]:
    """Alpha (H, W) and object colours (H, W, 3), float32 in [0, 1].

    rgb   (H, W, 3) uint8
    mask  (h, w) bool over the same area, at most about the same resolution
    """
    colours = rgb.astype(np.float32) / 255.0
    height, width = rgb.shape[:2]
    step = max(1.0, width / mask.shape[1])
    prior = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = _depth(prior > 0.5)
    outside = _depth(prior <= 0.5)
    reach = 3.0 * step
    front = _spread(colours, _weight(inside, reach), reach)
    back = _spread(colours, _weight(outside, reach), reach)

    axis = front - back
    contrast = np.einsum("hwc,hwc->hw", axis, axis)
    projected = np.einsum("hwc,hwc->hw", colours - back, axis) / np.maximum(contrast, 1e-6)
    trust = contrast / (contrast + LOW_CONTRAST**2)
    soft = cv2.GaussianBlur(prior, (0, 0), 0.5 * step)
    alpha = trust * np.clip(projected, 0.0, 1.0) + (1.0 - trust) * soft
    # The mask is right to about a pixel of its own, so further away it has the last word.
    alpha = np.maximum(alpha, np.clip((inside - 2.0 * step) / step, 0.0, 1.0))
    alpha = np.minimum(alpha, 1.0 - np.clip((outside - step) / step, 0.0, 1.0))
    # Noise of the backdrop and of flat surfaces must not show as a veil or as pinholes.
    alpha = np.clip((alpha - 0.05) / 0.9, 0.0, 1.0)
    return alpha, (_unmix(colours, alpha, front, back) if defringe else colours)


def defringe_cutout(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) float32 of a cutout whose rim may still hold its old background.

    Half transparent pixels move towards the opaque colours beside them, the more the fainter.
    """
    colours = rgb.astype(np.float32) / 255.0
    coverage = alpha.astype(np.float32)[..., None] / 255.0
    inside = _depth(alpha > 127)
    solid = _spread(colours, _weight(inside, 3.0), 3.0)
    known = cv2.dilate((inside > 1.0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    mixed = coverage * colours + (1.0 - coverage) * solid
    clean: np.ndarray = np.where(known[..., None], mixed, colours)
    return clean


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite float colours (H, W, 3) with alpha (H, W) on white -> uint8."""
    mixed = colours * alpha[..., None] + (1.0 - alpha[..., None])
    result: np.ndarray = np.rint(np.clip(mixed, 0.0, 1.0) * 255.0).astype(np.uint8)
    return result


def _depth(region: np.ndarray) -> np.ndarray:
    """Distance of each pixel of `region` to its outside, in pixels; 0 outside."""
    return cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 3)


def _weight(depth: np.ndarray, reach: float) -> np.ndarray:
    """Fourth power: a pixel at the rim is outvoted as soon as a deeper one is near."""
    weight: np.ndarray = np.minimum(depth / reach, 1.0) ** 4
    return weight


def _spread(colours: np.ndarray, weight: np.ndarray, reach: float) -> np.ndarray:
    """Weighted average of the colours around each pixel (normalised convolution)."""
    near = cv2.GaussianBlur(weight, (0, 0), reach)
    summed = cv2.GaussianBlur(colours * weight[..., None], (0, 0), reach)
    average: np.ndarray = summed / np.maximum(near, 1e-8)[..., None]
    return average


def _unmix(
    colours: np.ndarray, alpha: np.ndarray, front: np.ndarray, back: np.ndarray
) -> np.ndarray:
    coverage = alpha[..., None]
    solved = (colours - (1.0 - coverage) * back) / np.maximum(coverage, 0.05)
    # Alpha is never exact, so the solution is kept between what was seen and what lies further in.
    bounded = np.clip(solved, np.minimum(colours, front), np.maximum(colours, front))
    clean: np.ndarray = coverage * bounded + (1.0 - coverage) * front
    return clean
