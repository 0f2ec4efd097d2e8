"""GrabCut for pictures whose background is not plain (Rother, Kolmogorov, Blake 2004).

It starts from colours: what is rarer at the border than in the middle is probably the object. A
starting rectangle alone keeps whatever texture lies inside it.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.preprocess.backdrop import to_lab
from stages.preprocess.resample import shrink

SIDE = 256
"""Longest side: 5 iterations take 3.5 s at 560 x 550 and 0.6 s at this size (2 cores)."""

MIN_SIDE = 8
ITERATIONS = 5
CERTAIN, PROBABLE = 0.02, 0.10
"""Widths of the border rings taken as surely and as probably background, of the longest side."""

UNLIKELY = 0.1
"""What is less likely than this, or as likely not to be, is settled."""

SEED = 42
"""Of k-means' first centres: where the object is does not depend on the seed of a run."""

BINS = (10, 16, 16)
"""Colour histogram over L*, a*, b*."""


def grabcut(rgb: np.ndarray, likely: np.ndarray | None = None) -> np.ndarray:
    """Object mask (h, w) bool of a picture (h, w, 3) uint8, at the picture's resolution.

    likely: (h, w) float32 in [0, 1], how likely each pixel is the object's, to start from; without
    it colours say so.

    OpenCV draws from a generator that is global to the thread; it is set here.
    """
    small = shrink(rgb, SIDE)
    if min(small.shape[:2]) < MIN_SIDE:  # a strip that is all border
        return np.zeros(rgb.shape[:2], bool)
    labels = _start(small) if likely is None else _start_from(shrink(likely, SIDE))
    if not _is_mixed(labels):
        return np.zeros(rgb.shape[:2], bool)
    cv2.setRNGSeed(SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, (0, 0, 0, 0), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    mask = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    full: np.ndarray = cv2.resize(mask, (rgb.shape[1], rgb.shape[0])) > 0.5
    return full


def _start(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    certain = _ring(height, width, CERTAIN)
    probable = _ring(height, width, PROBABLE)
    unlike = _unlike_border(rgb, probable)
    if unlike[~probable].mean() < 0.02:  # colours tell nothing: the whole middle is the guess
        unlike = ~probable
    labels = np.where(unlike, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[certain] = cv2.GC_BGD
    return labels


def _start_from(likely: np.ndarray) -> np.ndarray:
    labels = np.where(likely > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[likely < UNLIKELY] = cv2.GC_BGD
    labels[likely > 1.0 - UNLIKELY] = cv2.GC_FGD
    return labels


def _is_mixed(labels: np.ndarray) -> bool:
    """Whether there is some object and some background, without which OpenCV raises."""
    front = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return bool(front.any() and not front.all())


def _ring(height: int, width: int, share: float) -> np.ndarray:
    thickness = max(1, min(round(share * max(height, width)), min(height, width) // 4))
    ring = np.ones((height, width), bool)
    ring[thickness:-thickness, thickness:-thickness] = False
    return ring


def _unlike_border(rgb: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Where the colours around a pixel are rarer in `border` than in the rest, (h, w) bool."""
    lab = to_lab(rgb)
    low, high = np.array([0, -64, -64], np.float32), np.array([100, 64, 64], np.float32)
    place = np.clip((lab - low) / (high - low), 0.0, 1.0) * (np.array(BINS) - 1)
    cell = np.ravel_multi_index(tuple(np.rint(np.moveaxis(place, 2, 0)).astype(int)), BINS)
    count = int(np.prod(BINS))
    outer = np.bincount(cell[border], minlength=count) / border.sum()
    inner = np.bincount(cell[~border], minlength=count) / max(1, (~border).sum())
    rarer = (inner + 1e-4) / (inner + outer + 2e-4)
    share = cv2.blur(rarer[cell].astype(np.float32), (5, 5))
    unlike: np.ndarray = (share > 0.35) & ~border
    return unlike
