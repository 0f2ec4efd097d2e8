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

- Between two thin outlines that are circles around the same hole, with wide coloured pieces
  between them, pieces are the white segments of a lifebuoy. Its segments may have no outline at
  all: then they are told by the circle (see `rings`).
- What the picture's edge and the object enclose together (see `cutoff`) is judged as the rest is,
  but for its shape, which the edge has cut.

Without such evidence a piece is a hole: rings, handles, lenses, fences, letters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from stages.preprocess.cutoff import Bay, bays_of, beyond, closed_off
from stages.preprocess.regions import label_regions
from stages.preprocess.rings import is_outlined_ring, join_segments
from stages.preprocess.shapes import (
    distance_to,
    fill,
    have_same_middle,
    is_ellipse,
    longest_side,
    rim_of,
    share,
)

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

LARGE = 0.6
"""Share of the filled silhouette above which taking a piece for a hole is worth a warning."""

FLOATING = 0.3
"""Share of the silhouette from which a part is worth a warning that one thing alone, loose in its
middle, tells from a hole: a clock's face has hands, the sign (c) is a ring and a letter."""


@dataclass(frozen=True)
class Settled:
    """An object mask whose enclosed pieces are decided on.

    mask      (h, w) bool
    filled    share of the silhouette that was backdrop colour and is part of the object now
    doubtful  share of the silhouette that was left as holes where little speaks for it
    floating  share of it that was taken for a part because one thing lies loose in it
    cut_off   share of it, together with what it and the picture's edge enclose, that the latter is,
              where that was taken for background
    at_edge   the same, where it was taken for a part
    joined    whether white segments of a ring were taken for parts
    """

    mask: np.ndarray
    filled: float = 0.0
    doubtful: float = 0.0
    floating: float = 0.0
    cut_off: float = 0.0
    at_edge: float = 0.0
    joined: bool = False


def settle_holes(
    mask: np.ndarray, holes: Holes, plain: np.ndarray | None = None, framed: bool = False
) -> Settled:
    """Decide on the enclosed pieces of an object mask (h, w) bool.

    holes   "keep": all are holes; "fill": none is; "auto": see the module's docstring
    plain   (h, w) bool, for "auto": what can be no feature, its colour being nearly the backdrop's
    framed  whether the mask is that of a whole picture, by its colours: the object may go on beyond
            its edge, and a ring's white segments may be missing
    """
    if holes == "keep" or not mask.any():
        return Settled(mask)
    drawn = mask if plain is None else mask & ~plain
    ring = join_segments(mask) if framed else mask
    if ring is not mask:
        whole = fill(ring)
        return Settled(whole if holes == "fill" else ring, share(ring & ~mask, whole), joined=True)
    bays = [b for b in bays_of(mask) if not b.corners or _has_features(b.mask, drawn)]
    if not framed or not bays:
        return _settle(mask, holes, drawn, np.zeros_like(mask))
    return _settle_cut_off(mask, holes, drawn, bays)


def _settle_cut_off(mask: np.ndarray, holes: Holes, drawn: np.ndarray, bays: list[Bay]) -> Settled:
    """The same of an object that goes on beyond the edge: judged there too, and cut off again."""
    size = beyond(mask)
    inside = (slice(size, -size),) * 2
    cut = np.zeros_like(mask)
    for bay in bays:
        cut |= bay.mask
    settled = _settle(
        closed_off(mask, bays), holes, np.pad(drawn, size, mode="edge"), np.pad(cut, size)
    )
    found = settled.mask[inside]
    whole = fill(found | cut)
    return replace(
        settled,
        mask=found,
        filled=share(found & ~mask, whole),
        floating=0.0,
        cut_off=share(cut & ~found, whole),
        at_edge=share(cut & found, whole) if holes == "auto" else 0.0,
    )


def _settle(mask: np.ndarray, holes: Holes, drawn: np.ndarray, cut: np.ndarray) -> Settled:
    """All (h, w) bool. drawn: what may be a feature; cut: pieces whose shape says nothing."""
    if holes == "fill":
        whole = fill(mask)
        return Settled(whole, share(whole & ~mask, whole))
    closed = _fill_loose_outlines(mask, drawn)
    pieces, count = label_regions(fill(closed) & ~closed)
    parts = closed.copy()
    featured: list[int] = []
    lonely = np.zeros_like(mask)
    for label in range(1, count + 1):
        piece = pieces == label
        has_features = _has_features(piece, drawn)
        if has_features or (not (piece & cut).any() and _is_drawn(piece, closed)):
            featured.append(label)
            parts |= fill(piece)
        if has_features and label_regions(fill(piece) & drawn, diagonal=True)[1] == 1:
            lonely |= piece
    segments = _segments_of_outlined_ring(pieces, count, closed)
    parts |= segments
    left = [label for label in range(1, count + 1) if not parts[pieces == label].any()]
    if featured or closed is not mask:
        stroke = _stroke(closed, pieces, featured)
        for label in left:
            if _is_part_too(pieces == label, closed, stroke):
                parts |= pieces == label
    for label in featured:
        parts &= ~_drawn_hole(pieces == label, drawn)
    whole = fill(closed)
    air = whole & ~parts
    doubtful = 0.0 if featured else share(air & ~cut, whole)
    floating = share(lonely & parts, whole) if len(featured) == 1 else 0.0
    return Settled(
        parts,
        share(parts & ~mask, whole),
        doubtful if doubtful > LARGE else 0.0,
        floating if floating > FLOATING else 0.0,
        joined=bool(segments.any()),
    )


def _segments_of_outlined_ring(pieces: np.ndarray, count: int, mask: np.ndarray) -> np.ndarray:
    """The white segments of a ring that is drawn with an inner and an outer outline, or none."""
    whole, none = fill(mask), np.zeros_like(mask)
    holes = [one for one in range(1, count + 1) if have_same_middle(pieces == one, whole)]
    others = [pieces == label for label in range(1, count + 1) if label not in holes]
    if len(holes) != 1 or len(others) < 2:
        return none
    hole = pieces == holes[0]
    thin = 1.5 * OUTLINE * longest_side(whole)
    for boundary in (~whole, hole):
        away = distance_to(boundary)
        if not all((away[rim_of(piece)] <= thin).mean() > 0.1 for piece in others):
            return none
    segments: np.ndarray = np.logical_or.reduce(others)
    return segments if is_outlined_ring(segments, hole, whole) else none


def _has_features(piece: np.ndarray, mask: np.ndarray) -> bool:
    """Whether something of the object lies loose within a piece of backdrop colour."""
    inside = fill(piece)
    features = inside & mask
    return bool(features.sum() >= max(MIN_FEATURE_PIXELS, MIN_FEATURE * inside.sum()))


def _fill_loose_outlines(mask: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """`mask` with what an outline with gaps goes around, if features of `drawn` are in it.

    The mask is made thicker until the gaps close; the narrowest ones first.
    """
    side = longest_side(mask)
    before = fill(mask)
    for gap in GAPS:
        if label_regions(fill(mask), diagonal=True)[1] == 1:  # nothing is loose
            break
        radius = max(1, round(gap * side / 2)) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        thick = cv2.dilate(mask.astype(np.uint8), kernel) > 0
        pieces, count = label_regions(fill(thick) & ~thick)
        for label in range(1, count + 1):
            piece = pieces == label
            if not (before & piece).any() and _has_features(piece, drawn):
                mask = mask | (cv2.dilate(fill(piece).astype(np.uint8), kernel) > 0)
    return mask


def _is_drawn(piece: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a piece is most of a shape that is drawn with a thin outline."""
    whole = fill(mask)
    if piece.sum() < DRAWING * whole.sum():
        return False
    wall = distance_to(~whole)[rim_of(piece)]
    return bool((wall <= OUTLINE * longest_side(whole)).mean() > 0.6) and not is_ellipse(piece)


def _stroke(mask: np.ndarray, pieces: np.ndarray, featured: list[int]) -> float:
    """Width of the outline between the featured pieces and the outside, in pixels."""
    whole = fill(mask)
    outside = distance_to(~whole)
    rims = [outside[rim_of(pieces == label)] for label in featured]
    widest = OUTLINE * longest_side(whole)
    return min(float(np.percentile(np.concatenate(rims), 20)), widest) if rims else widest


def _is_part_too(piece: np.ndarray, mask: np.ndarray, stroke: float) -> bool:
    """Whether a piece without features is a part of an object that has such parts."""
    whole = fill(mask)
    outside = distance_to(~whole)
    if (outside[rim_of(piece)] <= 1.5 * stroke + 1.0).mean() > 0.12:
        return True
    radius = CORE * float(outside.max())
    centres = outside >= radius
    core = distance_to(centres) <= radius
    deep = float((piece & core).sum()) > 0.7 * float(piece.sum())
    small = piece.sum() < SPOT * whole.sum()
    return deep and (small or _is_central(piece, whole)) and not have_same_middle(piece, whole)


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
    inside = fill(piece)
    drawn, count = label_regions(inside & ~piece & ~mask)
    alone = label_regions(inside & ~piece, diagonal=True)[1] == 1
    result = np.zeros_like(piece)
    for label in range(1, count + 1):
        hole = drawn == label
        large = hole.sum() > DRAWN_RING * inside.sum() and not _has_features(hole, mask)
        if large and ((alone and count == 1) or have_same_middle(hole, inside)):
            result |= hole
    return result
