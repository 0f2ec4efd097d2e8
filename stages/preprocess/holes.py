"""Is an enclosed piece of backdrop colour a hole, or a white part of the object?

Colour cannot tell: a panda's belly and the air in a doughnut are the same white. Shape can, often:

- What has features of its own in it is a part: eyes, a nose, buttons. Nothing floats in a hole.
- A feature that the outline does not quite enclose counts as well, once the gap is closed: an
  outline that is drawn loosely has gaps, a ring has none with something in it.
- What makes up most of a shape within a thin outline, and is no ellipse, is what was drawn: a
  shirt, a star. Ellipses may be hoops and lenses.
- Once one piece has turned out to be a part, the picture is one in which the backdrop's colour is
  also the object's. Then a piece is a part too if only the same thin outline keeps it from the
  outside (the belly below the face), if it lies within another part's feature (the glint in an
  eye), or deep inside the object and in its middle from left to right (a belly, teeth). A larger
  one at a side stays a hole (the handle of a mug that has a face), and so does a round one in the
  middle of a round object (a doughnut with sprinkles).

Without such evidence a piece is a hole: rings, handles, lenses, fences, letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stages.preprocess.regions import label_regions

Holes = Literal["auto", "keep", "fill"]

MIN_FEATURE = 0.003
"""Share of a piece that its features must fill: less is dust or noise of JPEG."""
MIN_FEATURE_PIXELS = 9

GAPS = (0.01, 0.02, 0.035, 0.06)
"""Gaps in an outline that are closed on trial, of the object's longest side."""

OUTLINE = 0.03
"""Widest stroke that is taken for a drawn outline, of the object's longest side."""

DRAWING = 0.5
"""Share of the silhouette from which a piece within a thin outline may be what is drawn. It must
not be an ellipse: hoops and lenses are."""

CORE = 0.9
"""Radius that a place must have around it to be deep inside the object, of the largest such."""

SPOT = 0.02
"""Share of the silhouette below which a piece deep inside may lie anywhere: handles are larger."""

OFF_CENTRE = 0.2
"""How far a larger one may be from the middle, of the silhouette's width."""

DRAWN_RING = 0.04
"""Share of a part from which a circle drawn within it may be a hole: eyes are smaller."""

CONCENTRIC = 0.06
"""How far off the middle of its part the hole of a drawn ring may be, of the part's size."""

ELLIPSE = 0.93
"""Overlap with its best ellipse (intersection over union) from which a shape is one."""

ROUND = 0.85
"""Share of the smallest circle around it that a round shape fills."""

LARGE = 0.6
"""Share of the filled silhouette above which taking a piece for a hole is worth a warning."""

_SMALL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Settled:
    """An object mask whose enclosed pieces are decided on.

    mask     (h, w) bool
    filled   share of the silhouette that was backdrop colour and is part of the object now
    doubtful share of the silhouette that was left as holes where little speaks for it
    """

    mask: np.ndarray
    filled: float
    doubtful: float


def settle_holes(mask: np.ndarray, holes: Holes, plain: np.ndarray | None = None) -> Settled:
    """Decide on the enclosed pieces of an object mask (h, w) bool.

    holes  "keep": all are holes; "fill": none is; "auto": see the module's docstring
    plain  (h, w) bool, for "auto": what can be no feature, its colour being nearly the backdrop's
    """
    if holes == "keep" or not mask.any():
        return Settled(mask, 0.0, 0.0)
    whole = _fill(mask)
    if holes == "fill":
        return Settled(whole, _share(whole & ~mask, whole), 0.0)
    drawn = mask if plain is None else mask & ~plain
    closed = _fill_loose_outlines(mask, drawn)
    pieces, count = label_regions(_fill(closed) & ~closed)
    parts = closed.copy()
    featured: list[int] = []
    for label in range(1, count + 1):
        piece = pieces == label
        if _has_features(piece, drawn) or _is_drawn(piece, closed):
            featured.append(label)
            parts |= _fill(piece)
    left = [label for label in range(1, count + 1) if not parts[pieces == label].any()]
    if featured or closed is not mask:
        stroke = _stroke(closed, pieces, featured)
        for label in left:
            if _is_part_too(pieces == label, closed, stroke):
                parts |= pieces == label
    for label in featured:
        parts &= ~_drawn_hole(pieces == label, drawn)
    whole = _fill(closed)
    air = whole & ~parts
    doubtful = 0.0 if featured else _share(air, whole)
    return Settled(parts, _share(parts & ~mask, whole), doubtful if doubtful > LARGE else 0.0)


def _fill(mask: np.ndarray) -> np.ndarray:
    """`mask` with all that it encloses; diagonal neighbours enclose."""
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    labels = cv2.connectedComponents(padded, connectivity=4)[1]
    filled: np.ndarray = (labels != labels[0, 0])[1:-1, 1:-1]
    return filled


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum()) / max(1.0, float(whole.sum()))


def _side(mask: np.ndarray) -> int:
    """Longest side of the bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1


def _has_features(piece: np.ndarray, mask: np.ndarray) -> bool:
    """Whether something of the object lies loose within a piece of backdrop colour."""
    inside = _fill(piece)
    features = inside & mask
    return bool(features.sum() >= max(MIN_FEATURE_PIXELS, MIN_FEATURE * inside.sum()))


def _fill_loose_outlines(mask: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """`mask` with what an outline with gaps goes around, if features of `drawn` are in it.

    The mask is made thicker until the gaps close; the narrowest ones first.
    """
    side = _side(mask)
    before = _fill(mask)
    for gap in GAPS:
        if label_regions(_fill(mask), diagonal=True)[1] == 1:  # nothing is loose
            break
        radius = max(1, round(gap * side / 2)) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        thick = cv2.dilate(mask.astype(np.uint8), kernel) > 0
        pieces, count = label_regions(_fill(thick) & ~thick)
        for label in range(1, count + 1):
            piece = pieces == label
            if not (before & piece).any() and _has_features(piece, drawn):
                mask = mask | (cv2.dilate(_fill(piece).astype(np.uint8), kernel) > 0)
    return mask


def _is_drawn(piece: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a piece is most of a shape that is drawn with a thin outline."""
    whole = _fill(mask)
    if piece.sum() < DRAWING * whole.sum():
        return False
    wall = _distance_to(~whole)[_rim(piece)]
    return bool((wall <= OUTLINE * _side(whole)).mean() > 0.6) and not _is_ellipse(piece)


def _is_ellipse(shape: np.ndarray) -> bool:
    contours, _ = cv2.findContours(shape.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)
    if len(outline) < 5:
        return True
    drawn = np.zeros(shape.shape, np.uint8)
    cv2.ellipse(drawn, cv2.fitEllipse(outline), 1, -1)
    ellipse = drawn > 0
    return float((ellipse & shape).sum()) > ELLIPSE * float((ellipse | shape).sum())


def _stroke(mask: np.ndarray, pieces: np.ndarray, featured: list[int]) -> float:
    """Width of the outline between the featured pieces and the outside, in pixels."""
    whole = _fill(mask)
    outside = _distance_to(~whole)
    rims = [outside[_rim(pieces == label)] for label in featured]
    widest = OUTLINE * _side(whole)
    return min(float(np.percentile(np.concatenate(rims), 20)), widest) if rims else widest


def _is_part_too(piece: np.ndarray, mask: np.ndarray, stroke: float) -> bool:
    """Whether a piece without features is a part of an object that has such parts."""
    whole = _fill(mask)
    outside = _distance_to(~whole)
    if (outside[_rim(piece)] <= 1.5 * stroke + 1.0).mean() > 0.12:
        return True
    radius = CORE * float(outside.max())
    centres = outside >= radius
    core = _distance_to(centres) <= radius
    deep = float((piece & core).sum()) > 0.7 * float(piece.sum())
    small = piece.sum() < SPOT * whole.sum()
    return deep and (small or _is_central(piece, whole)) and not _same_middle(piece, whole)


def _is_central(piece: np.ndarray, whole: np.ndarray) -> bool:
    """Whether a piece lies in the middle from left to right, as bellies and mouths do."""
    columns = np.flatnonzero(whole.any(axis=0))
    width = int(columns[-1] - columns[0]) + 1
    off = np.nonzero(piece)[1].mean() - (columns[0] + columns[-1]) / 2.0
    return bool(abs(off) < OFF_CENTRE * width)


def _drawn_hole(piece: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The hole of a ring that is drawn with an inner and an outer outline, (h, w) bool.

    What lies within the feature of a part belongs to the part (the white of an eye), unless it is
    all that is in there, or both are round and have the same middle (a doughnut with sprinkles).
    """
    inside = _fill(piece)
    drawn, count = label_regions(inside & ~piece & ~mask)
    alone = label_regions(inside & ~piece, diagonal=True)[1] == 1
    result = np.zeros_like(piece)
    for label in range(1, count + 1):
        hole = drawn == label
        large = hole.sum() > DRAWN_RING * inside.sum() and not _has_features(hole, mask)
        if large and ((alone and count == 1) or _same_middle(hole, inside)):
            result |= hole
    return result


def _same_middle(hole: np.ndarray, around: np.ndarray) -> bool:
    """Whether two round shapes have the same middle."""
    middles = []
    for shape in (hole, around):
        points = cv2.findNonZero(shape.astype(np.uint8))
        middle, radius = cv2.minEnclosingCircle(points)
        if shape.sum() < ROUND * np.pi * radius**2:
            return False
        middles.append(np.array(middle))
    size = 2.0 * radius
    return bool(np.linalg.norm(middles[0] - middles[1]) < CONCENTRIC * size)


def _rim(piece: np.ndarray) -> np.ndarray:
    """The pixels of a piece that border on others."""
    rim: np.ndarray = piece & ~(cv2.erode(piece.astype(np.uint8), _SMALL) > 0)
    return rim


def _distance_to(region: np.ndarray) -> np.ndarray:
    """Distance of each pixel to `region`, in pixels."""
    padded = np.pad(~region, 1)  # beyond the picture is outside
    distance = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 5)
    return distance[1:-1, 1:-1]
