"""Outlines that colour hardly shows: where a pale surface fades into a backdrop as pale.

There the flood from the border runs into the object until its shading stops it, and leaves a ragged
bite. The network's outline is smooth, and right to about a pixel of its own; it is taken along such
stretches alone, and in objects alone that light models (see `highlights`). Everywhere else colours
are exact, thin parts and holes included.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.preprocess.regions import label_regions
from stages.preprocess.shapes import fill

FAINT = 35.0
"""Delta E from the backdrop that the object does not reach along such a stretch ..."""

WITHIN = 2
"""... as far as this many pixels inside its edge: outlines that are sharp have their full step
there. With 15, bites in pale lilac things stay; with 25 those in darker ones."""

NEAR = 6
"""Pixels along the edge that belong to a stretch beside it: the teeth between two bites."""

MIN_STRETCH = 0.02
"""Share of the outline from which it is worth the time that the network takes."""

SEEN = 0.5
"""Share of the object from which a pixel beside such a stretch is its."""

RIM = 5
"""Pixels beside a sharp edge in which the network's outline is less exact than the colours'."""


def faint_edge(mask: np.ndarray, off: np.ndarray) -> np.ndarray:
    """The pixels (h, w) bool of the object's edge that are hardly told from the backdrop.

    mask  (h, w) bool, the object
    off   (h, w) float32, Delta E from the backdrop
    """
    highest = cv2.dilate(np.where(mask, off, 0.0).astype(np.float32), _disc(WITHIN))
    edge = edge_of(mask)
    faint: np.ndarray = edge & _grown(edge & (highest < FAINT), NEAR)
    return faint


def edge_of(mask: np.ndarray) -> np.ndarray:
    """The object's pixels (h, w) bool beside others; those at the picture's edge are none."""
    edge: np.ndarray = mask & ~(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    return edge


def is_long(faint: np.ndarray, mask: np.ndarray) -> bool:
    return bool(faint.sum() > MIN_STRETCH * edge_of(mask).sum())


def with_faint_parts(mask: np.ndarray, faint: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool and what the network sees beyond its faint edge.

    faint  as `faint_edge` has it
    share  (h, w) float32, how likely the network holds each pixel to be the object's

    A bite is filled whole, if most of it is nearer to the faint edge than to the rest of the edge:
    what a sharp outline goes around is told by that. Bites into the rim of a hole are filled too,
    but no hole (see `highlights`).
    """
    away, nearest = cv2.distanceTransformWithLabels(
        (~edge_of(mask)).astype(np.uint8),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    is_faint = np.zeros(int(nearest.max()) + 1, bool)
    is_faint[nearest[faint]] = True
    beside_faint = is_faint[nearest]
    seen = ~mask & (share > SEEN) & ~_taken_for_parts(mask, share)
    labels, count = label_regions(seen & (beside_faint | (away > RIM)))
    votes = np.bincount(labels[beside_faint], minlength=count + 1)
    bitten = 2 * votes > np.bincount(labels.ravel(), minlength=count + 1)
    bitten[0] = False
    joined: np.ndarray = mask | (seen & _grown(bitten[labels], RIM + 1))
    return joined


def _taken_for_parts(mask: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Enclosed pieces that the network does not see as holes, (h, w) bool."""
    labels, count = label_regions(fill(mask) & ~mask)
    area = np.maximum(np.bincount(labels.ravel(), minlength=count + 1), 1)
    parts = np.bincount(labels.ravel(), weights=share.ravel(), minlength=count + 1) > SEEN * area
    parts[0] = False
    taken: np.ndarray = parts[labels]
    return taken


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    grown: np.ndarray = cv2.dilate(mask.astype(np.uint8), _disc(by)) > 0
    return grown


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
