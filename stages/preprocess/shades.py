"""Pale objects on a plain backdrop: what was taken for a soft shadow, and may be the object.

By its colour a white cup on white paper is a shadow that falls on the paper. The network sees cups;
where it is sure, what it sees beside the object is added. All that the backdrop's colour tells
exactly, thin parts and holes, stays as it was told.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.preprocess.backdrop import Backdrop

MIN_SHADE = 0.05
"""Share of the object, found or not, that has to be shaded for a second opinion to be worth its
second of computing."""

NOTICEABLE = 3.0
"""Delta E from the backdrop, or as many standard deviations of it, from which a pixel is shaded."""

CERTAIN = 0.9
"""Share of the object from which what has the backdrop's own colour is taken for a part of it."""

BAND = 7
"""Width in pixels below which what the network adds is the inaccuracy of its outline."""


def shaded_in(lab: np.ndarray, backdrop: Backdrop, mask: np.ndarray) -> np.ndarray:
    """Pixels (h, w) bool outside the object's `mask` that differ from the backdrop; no rims."""
    off = np.linalg.norm(lab - backdrop.surface, axis=2)
    return _wide(~mask & (off > max(NOTICEABLE, NOTICEABLE * backdrop.noise)))


def is_worth_a_look(mask: np.ndarray, shaded: np.ndarray) -> bool:
    """Whether what is shaded is more than `MIN_SHADE` of it and the object together, or colours
    tell no object at all."""
    return not mask.any() or bool(shaded.sum() > MIN_SHADE * (shaded | mask).sum())


def with_pale_parts(mask: np.ndarray, shaded: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool and what the network sees beside and within it.

    share: (h, w) float32, how likely it holds each pixel to be the object's. Where nothing differs
    from the backdrop it has to be `CERTAIN`, for a hole looks like that.
    """
    seen = (shaded & (share > 0.5)) | (share > CERTAIN)
    joined: np.ndarray = mask | _wide(seen & ~mask)
    return joined


def _wide(mask: np.ndarray) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BAND, BAND))
    opened: np.ndarray = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0
    return opened
