"""Outlines that colour hardly shows: where a pale surface fades into a backdrop as pale.

There the flood from the border runs into the object until its shading stops it, and leaves a ragged
bite. The network's outline is smooth, and right to about a pixel of its own; it is taken along such
stretches alone. Everywhere else colours are exact, thin parts and holes included.
"""

from __future__ import annotations

import cv2
import numpy as np

FAINT = 15.0
"""Delta E from the backdrop that the object does not reach along such a stretch ..."""

WITHIN = 4
"""... as far as this many pixels inside its edge."""

MIN_STRETCH = 0.02
"""Share of the outline from which it is worth the second that the network takes."""

SEEN = 0.5
"""Share of the object from which a pixel beside such a stretch is its."""

REACH = 0.15
"""How far from the object's edge a bite goes, of the picture's longest side."""


def faint_edge(mask: np.ndarray, off: np.ndarray) -> np.ndarray:
    """The pixels (h, w) bool of the object's edge that are hardly told from the backdrop.

    mask  (h, w) bool, the object
    off   (h, w) float32, Delta E from the backdrop
    """
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * WITHIN + 1,) * 2)
    highest = cv2.dilate(np.where(mask, off, 0.0).astype(np.float32), reach)
    faint: np.ndarray = edge_of(mask) & (highest < FAINT)
    return faint


def edge_of(mask: np.ndarray) -> np.ndarray:
    """The object's pixels (h, w) bool beside others; those at the picture's edge are none."""
    edge: np.ndarray = mask & ~(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    return edge


def is_long(faint: np.ndarray, mask: np.ndarray) -> bool:
    return bool(faint.sum() > MIN_STRETCH * edge_of(mask).sum())


def with_faint_parts(mask: np.ndarray, faint: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool and what the network sees beyond its faint edge.

    faint as `faint_edge` has it; share (h, w) float32, how likely the network holds each pixel to be
    the object's. Only what is nearer to the faint edge than to the rest of the object is added.
    """
    edge = edge_of(mask)
    away, nearest = cv2.distanceTransformWithLabels(
        (~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    is_faint = np.zeros(int(nearest.max()) + 1, bool)
    is_faint[nearest[faint]] = True
    beside = is_faint[nearest] & (away <= REACH * max(mask.shape))
    joined: np.ndarray = mask | (beside & (share > SEEN))
    return joined
