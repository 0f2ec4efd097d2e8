"""Do pictures show one object, and from which sides? What outlines and colours say of it.

Seen from behind, an outline is nearly the front's mirror image, and so are left and right of each
other. Of the surface that the front shows, its right half is what the left side's picture shows in
its left half (the object's own left is on the right of its front picture), and so on round.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.preprocess.alike import HALF, Framed

SIZE = 96
"""Side at which pictures are compared, pixels."""
SLACK = 4
"""Pixels, of `SIZE`, that an outline may lie beside another one and still agree with it."""
FARTHEST = 40.0
"""Difference in CIELAB from which colours are simply not alike."""
LIGHT = 10.0
"""Lightness, of 100, by which one picture may be the lighter one for its exposure alone."""
BINS = (9, 14, 14)
"""Of a histogram of colours, along the axes of CIELAB: about 16 units each."""


@dataclass(frozen=True)
class Look:
    """What is compared of one framed picture.

    mask    (N, N) bool
    lab     (N, N, 3) float32, CIELAB: L 0 to 100
    """

    mask: np.ndarray
    lab: np.ndarray

    @classmethod
    def of(cls, framed: Framed) -> Look:
        size = (SIZE, SIZE)
        image = cv2.resize(framed.image, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(framed.alpha[..., 0], size, interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(image.astype(np.float32) / np.float32(255.0), cv2.COLOR_RGB2LAB)
        return cls(alpha > HALF, lab)


def mirrored_overlap(a: Look, b: Look) -> float:
    """Intersection over union of a's outline and b's mirror image."""
    other = b.mask[:, ::-1]
    return float((a.mask & other).sum() / max(1, (a.mask | other).sum()))


def mirrored_agreement(a: Look, b: Look) -> float:
    """0 to 1: as `mirrored_overlap`, where an outline may lie `SLACK` beside the other. Legs that
    are near one camera are far from the opposite one, so that they do not cover each other."""
    other = b.mask[:, ::-1]
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * SLACK + 1,) * 2)
    shares = [
        float((one & (cv2.dilate(near.astype(np.uint8), window) > 0)).sum() / max(1, one.sum()))
        for one, near in ((a.mask, other), (other, a.mask))
    ]
    return min(shares)


def palette_overlap(a: Look, b: Look) -> float:
    """0 to 1: how much of the colours of one is among the other's, wherever they are."""
    one, other = _palette(a), _palette(b)
    return float(np.minimum(one, other).sum())


def colours_apart(a: Look, b: Look) -> float:
    """How far the colours of two pictures that are equally high lie apart, height by height: the
    mean difference in CIELAB of their rows' mean colours, 0 to `FARTHEST`. A turn of an object
    about its upright axis leaves all that it is made of at its height."""
    difference = _rows(a) - _rows(b)
    difference = difference[np.isfinite(difference).all(axis=1)]
    if not len(difference):
        return FARTHEST
    difference[:, 0] -= np.clip(np.median(difference[:, 0]), -LIGHT, LIGHT)
    return float(np.minimum(np.linalg.norm(difference, axis=1), FARTHEST).mean())


def as_side(side: Look, front: Look, back: Look | None) -> tuple[float, float]:
    """How far the colours of `side` are from what front and back say, taken for the left and taken
    for the right: mean differences in CIELAB, at most `FARTHEST`."""
    one, other = _halves(side)
    front_left, front_right = _halves(front)
    as_left, as_right = [_distance(one, front_right)], [_distance(other, front_left)]
    if back is not None:
        back_left, back_right = _halves(back)
        as_left.append(_distance(other, back_left))
        as_right.append(_distance(one, back_right))
    return float(np.mean(as_left)), float(np.mean(as_right))


def _halves(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) each: mean colour of each row's left and right half, NaN where there is no object."""
    columns = np.arange(SIZE)
    count = look.mask.sum(axis=1)
    first = np.where(look.mask, columns, SIZE).min(axis=1)
    last = np.where(look.mask, columns, -1).max(axis=1)
    is_left = columns < ((first + last + 1) / 2.0)[:, None]
    found = []
    for half in (look.mask & is_left, look.mask & ~is_left):
        share = half.sum(axis=1)
        total = (look.lab * half[..., None]).sum(axis=1)
        mean = total / np.maximum(share, 1)[:, None]
        found.append(np.where((share > 0)[:, None] & (count > 2)[:, None], mean, np.nan))
    return found[0], found[1]


def _rows(look: Look) -> np.ndarray:
    """(N, 3): mean colour of each row of the object, NaN where there is none."""
    share = look.mask.sum(axis=1)[:, None]
    total = (look.lab * look.mask[..., None]).sum(axis=1)
    return np.asarray(np.where(share > 0, total / np.maximum(share, 1), np.nan))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    difference = np.linalg.norm(a - b, axis=1)
    known = np.isfinite(difference)
    if not known.any():
        return FARTHEST
    return float(np.minimum(difference[known], FARTHEST).mean())


def _palette(look: Look) -> np.ndarray:
    """Histogram of the object's colours, blurred: the light differs from picture to picture."""
    span = ((-20.0, 120.0), (-110.0, 110.0), (-110.0, 110.0))
    counts, _ = np.histogramdd(look.lab[look.mask], bins=BINS, range=span)
    for axis in range(3):
        counts = (2.0 * counts + np.roll(counts, 1, axis) + np.roll(counts, -1, axis)) / 4.0
    return np.asarray(counts / max(1.0, float(counts.sum())))
