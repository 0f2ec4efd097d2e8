"""An alpha channel -> which of its pixels are the object.

Alpha is used for more than outlines: a ghost is 45 % opaque all over, a logo stands on a 75 % black
shadow, a lamp has a glow that fades out around it. Later stages need a silhouette, so here

- the level at which the object is opaque is taken from the picture: 45 % may be all there is;
- a dark, neutral region below that level, open to the outside, is a shadow;
- a region that fades out towards the outside is a glow, and ends where it has lost half its level;
- any other translucent region is the object's: a wing, a bottle, the tail of a ghost.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.preprocess.regions import boxes_of_regions, label_regions

SOLID = 0.9
"""Share of the object's level above which a pixel is solid; of 255, above which it is opaque."""

SOFT_OUTLINE = 0.08
"""How far from what is solid a soft outline has more than half of its level, of the object's size;
a glow is wider."""

STEP = 0.7
"""A region that begins below this share of the object's level is no outline of it either."""

DARK, NEUTRAL = 70, 24
"""Highest value, and largest difference between channels, of a shadow's colour (0..255)."""

RIM = 3
"""Pixels at an outline that are blended with nothing, and say nothing of the level behind them."""

FADED = 0.5
"""A region fades out if its level beside the outside is below this share of its own; what is above
this share of the object's level stays."""

_SMALL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Silhouette:
    """mask     (h, w) bool, the object
    level    alpha of its solid parts (0..255)
    shadow   share of the covered pixels that were a shadow
    glow     share of them that faded out around the object
    cut      whether the mask ends where alpha does not: at a shadow, a glow, a soft outline
    translucent  share of the object, without its outline, that one sees through
    opacity  of that part, its median alpha in [0, 1]; 1 where there is none
    """

    mask: np.ndarray
    level: int
    shadow: float
    glow: float
    cut: bool
    translucent: float = 0.0
    opacity: float = 1.0


def silhouette_of(rgba: np.ndarray, threshold: int) -> Silhouette:
    """Of a picture (h, w, 4) uint8 with straight alpha; alpha above `threshold` is covered."""
    alpha = rgba[..., 3]
    covered = alpha > threshold
    if not covered.any():
        return Silhouette(covered, 0, 0.0, 0.0, False)
    level = int(np.percentile(alpha[covered], 98))
    solid = alpha >= SOLID * level
    rest = covered & ~(cv2.dilate(solid.astype(np.uint8), _SMALL) > 0)
    outside = ~covered
    shadow = _shadow(rgba, rest, solid, outside)
    glow, soft = _fading(alpha, rest & ~shadow, solid, outside, level)
    gone = shadow | glow
    mask = covered & ~gone
    if gone.any():  # with the pixels between it and what is solid, which `rest` leaves out
        mask &= solid | ~(cv2.dilate(gone.astype(np.uint8), _SMALL, iterations=2) > 0)
    # An outline that is soft ends at half of the level, as an antialiased one does.
    mask &= ~(soft & (alpha < FADED * level))
    count = float(covered.sum())
    cut = bool(gone.any() or soft.any())
    return Silhouette(
        mask,
        level,
        float(shadow.sum()) / count,
        float(glow.sum()) / count,
        cut,
        *_see_through(alpha, mask, soft),
    )


def full_alpha(alpha: np.ndarray, mask: np.ndarray, step: float, cut: bool) -> np.ndarray:
    """(H, W) uint8: 255 within the object, its antialiased outline, 0 outside.

    alpha  (H, W) uint8, as the picture has it
    mask   (H, W) bool, the object, at most `step` pixels off
    cut    see `Silhouette`: then the outline is the mask's alone
    """
    if cut:
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(0.5, 0.4 * step))
        return np.asarray(np.rint(soft * 255.0), np.uint8)
    reach = max(1, round(step)) + RIM
    size = 2 * reach + 1
    near = cv2.dilate(np.where(mask, alpha, np.uint8(0)), np.ones((size, size), np.uint8))
    share = alpha.astype(np.float32) / np.maximum(near, 1).astype(np.float32)
    slack = cv2.dilate(mask.astype(np.uint8), _SMALL, iterations=max(1, round(step)))
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    share = np.where(depth > reach, 1.0, share * (slack > 0))
    full: np.ndarray = np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    return full


def _shadow(
    rgba: np.ndarray, rest: np.ndarray, solid: np.ndarray, outside: np.ndarray
) -> np.ndarray:
    rgb = rgba[..., :3].astype(np.int16)
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    dark = rest & (high <= DARK) & (high - low <= NEUTRAL)
    found = _open_regions(dark, outside)
    # The blend along a black outline is as dark, and thin.
    labels, count = label_regions(found, diagonal=True)
    away = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 3)
    farthest = np.zeros(count + 1, np.float32)
    np.maximum.at(farthest, labels, away)
    found &= farthest[labels] > 2 * RIM
    # An object that is itself dark has dark translucent parts of its own.
    own = np.median(high[solid]) if solid.any() else 0
    return found if own > DARK else np.zeros_like(found)


def _fading(
    alpha: np.ndarray, rest: np.ndarray, solid: np.ndarray, outside: np.ndarray, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """Regions that fade out, each (h, w) bool: glows, and outlines that are soft."""
    glow, outline = np.zeros(rest.shape, bool), np.zeros(rest.shape, bool)
    to_outside = cv2.distanceTransform((~outside).astype(np.uint8), cv2.DIST_L2, 3)
    away = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 3)
    narrow = SOFT_OUTLINE * float(np.sqrt(solid.sum()))
    labels, boxes = boxes_of_regions(rest)
    for label, box in enumerate(boxes, 1):
        region = labels[box] == label
        levels = alpha[box][region]
        beside = region & (to_outside[box] > 1.5) & (to_outside[box] <= RIM + 1.5)
        if not beside.any() or region.sum() < RIM * RIM:
            continue
        top = float(np.percentile(levels, 95))
        if float(np.median(alpha[box][beside])) < FADED * top:
            strong = region & (alpha[box] >= FADED * level)
            wide = strong.any() and float(np.percentile(away[box][strong], 95)) > narrow
            next_to_it = region & (away[box] > 2.0) & (away[box] <= RIM + 2.0)
            step = next_to_it.any() and float(np.median(alpha[box][next_to_it])) < STEP * level
            (glow if wide or step else outline)[box] |= region
    return glow, outline


def _see_through(alpha: np.ndarray, mask: np.ndarray, soft: np.ndarray) -> tuple[float, float]:
    """`translucent` and `opacity` of a `Silhouette`. soft: (h, w) bool, outlines that are soft."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    inner = alpha[(depth > RIM) & ~soft]
    clear = inner[inner < SOLID * 255.0]
    if not clear.size:
        return 0.0, 1.0
    return clear.size / inner.size, float(np.median(clear)) / 255.0


def _open_regions(region: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The components of `region` (h, w) bool that touch the outside over a good part of their
    outline; a dark pane within a frame does not."""
    labels, count = label_regions(region, diagonal=True)
    if not count:
        return region
    beside = region & (cv2.dilate(outside.astype(np.uint8), _SMALL, iterations=2) > 0)
    edge = region & ~(cv2.erode(region.astype(np.uint8), _SMALL) > 0)
    touching = np.bincount(labels[beside & edge], minlength=count + 1)
    whole = np.bincount(labels[edge], minlength=count + 1)
    wanted = touching > 0.25 * whole
    wanted[0] = False
    found: np.ndarray = wanted[labels]
    return found
