"""Highlights: enclosed pieces of the backdrop's colour in an object that light models.

On white, the glint on a bulb and an arrow that is lit until it is white look like holes. In a flat
drawing the network calls a hoop's inside a part too, and cannot be asked. In a photograph or a
render, whose colours change gradually over most surfaces, it is right: in emoji in 3D its mean
share is 0.90 at most in 137 holes, and above 0.95 in 50 of 54 white parts.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.preprocess.regions import label_regions
from stages.preprocess.shapes import fill, is_in_the_middle, longest_side

SLOPES = (50.0, 700.0)
"""Change of colour over a modelled surface, in Delta E for the object's longest side: flat paint
has less, edges and patterns have more."""

MODELLED = 0.42
"""Share of the object's inside that changes so. Renders have 0.49 to 0.93; flat drawings up to 0.2,
and 0.34 as JPEG. Drawings with gradients have any; the network is mostly right about them."""

MIN_INSIDE = 0.2
"""Share of the silhouette that must lie well inside the object: of a hoop or the frame of glasses,
noise is all that could be told, and what they go around is mostly air."""

INSET = 4
"""Pixels from the object's edge, and from that of its holes, that are well inside."""

HELD = 0.95
"""Mean share of the object from which the network's word for a piece is taken."""

MIN_PIECE = 20
"""Pixels; of smaller ones the network, which sees half as many along each side, says nothing."""


def is_modelled(mask: np.ndarray, lab: np.ndarray) -> bool:
    """Whether colours `lab` (h, w, 3) float32 change gradually over most of the object's `mask`."""
    if not mask.any():
        return False
    whole = fill(mask)
    size = (2 * INSET + 1,) * 2
    inside = cv2.erode(mask.astype(np.uint8), np.ones(size, np.uint8)) > 0
    if inside.sum() < MIN_INSIDE * whole.sum():
        return False
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.5)
    dx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) / 32.0
    dy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) / 32.0
    slopes = np.sqrt((dx * dx + dy * dy).sum(axis=2))[inside] * longest_side(whole)
    return float(((slopes > SLOPES[0]) & (slopes < SLOPES[1])).mean()) >= MODELLED


def white_pieces(mask: np.ndarray) -> list[np.ndarray]:
    """Enclosed pieces of an object's mask (h, w) bool, (h, w) bool each, that may be its parts.

    A piece in the middle of a round object may be the hole of a disc or a ring, and is left out.
    """
    whole = fill(mask)
    pieces, count = label_regions(whole & ~mask)
    found = [pieces == label for label in range(1, count + 1)]
    return [p for p in found if p.sum() >= MIN_PIECE and not is_in_the_middle(p, whole)]


def with_highlights(mask: np.ndarray, pieces: list[np.ndarray], share: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool with those of the `pieces` that the network holds to be the object's.

    share: (h, w) float32, how likely it holds each pixel to be the object's.
    """
    joined = mask.copy()
    for piece in pieces:
        if float(share[piece].mean()) >= HELD:
            joined |= piece
    return joined
