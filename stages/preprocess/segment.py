"""Opaque picture -> mask of the object in front, without a network.

A plain backdrop is recognised and segmented by its colour; anything else goes through GrabCut.
Both work on a small copy; `matting` turns the mask into an alpha at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from stages.preprocess.backdrop import (
    find_plain_backdrop,
    segment_on_backdrop,
    stated_backdrop,
    to_lab,
)
from stages.preprocess.box import Box, bounding_box
from stages.preprocess.grabcut import grabcut
from stages.preprocess.holes import Holes, Settled, settle_holes
from stages.preprocess.resample import shrink

WORK_SIDE = 512
"""Longest side of the copy that is segmented."""

MIN_COMPONENT = 0.01
"""A component smaller than this share of the largest one is dust."""

FEATURE_CONTRAST = 15.0
"""Delta E from the backdrop that a feature has, and the noise of a JPEG beside an outline not."""

FOCUS_BELOW = 0.5
"""An object smaller than this share of the frame is segmented again in a closer crop."""


@dataclass(frozen=True)
class Segmentation:
    """Mask of the object within a part of the picture; there is no object outside of it.

    region    the part, in picture pixels
    mask      (h, w) bool, covering `region` at its own, usually lower, resolution
    plain     whether a plain backdrop told the object; else GrabCut had to guess
    doubtful, floating, cut_off, at_edge, joined
              what is doubtful about its holes, as in `holes.Settled`
    """

    region: Box
    mask: np.ndarray
    plain: bool = True
    doubtful: float = 0.0
    floating: float = 0.0
    cut_off: float = 0.0
    at_edge: float = 0.0
    joined: bool = False

    @property
    def object_box(self) -> Box | None:
        """Bounding box of the object in picture pixels, None when the mask is empty."""
        inner = bounding_box(self.mask)
        return None if inner is None else self._in_picture(inner)

    def cropped(self, margin: float) -> Segmentation:
        """This segmentation of a closer region: the object and `margin` of its longest side."""
        inner = bounding_box(self.mask)
        if inner is None:
            return self
        height, width = self.mask.shape
        # No more than the object's own size: around one of a few pixels, six are a lot.
        kept = min(max(6, round(margin * inner.longest)), max(1, int(inner.longest)))
        outer = inner.grown(kept).within(width, height)
        return replace(self, region=self._in_picture(outer), mask=self.mask[outer.slices])

    def _in_picture(self, inner: Box) -> Box:
        sx = self.region.width / self.mask.shape[1]
        sy = self.region.height / self.mask.shape[0]
        x, y = self.region.left, self.region.top
        return Box(
            x + sx * inner.left, y + sy * inner.top, x + sx * inner.right, y + sy * inner.bottom
        )


def segment(
    rgb: np.ndarray, holes: Holes = "auto", colour: tuple[int, int, int] | None = None
) -> Segmentation:
    """Find the object in an opaque picture (H, W, 3) uint8. The mask may come out empty.

    holes   what to make of enclosed pieces of a plain backdrop, see `settle_holes`
    colour  sRGB of the backdrop, where the user has said it
    """
    height, width = rgb.shape[:2]
    whole = _segment_copy(rgb, Box(0, 0, width, height), holes, colour)
    found = whole.object_box
    if (
        found is None
        or max(height, width) <= WORK_SIDE
        or found.longest > FOCUS_BELOW * max(height, width)
    ):
        return whole
    region = found.grown(max(8.0, 0.15 * found.longest)).outward().within(width, height)
    closer = _segment_copy(rgb[region.slices], region, holes, colour)
    return closer if closer.mask.any() else whole


def significant(mask: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool without components much smaller than the largest one."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    wanted = area >= max(1.0, MIN_COMPONENT * float(area.max()))
    kept: np.ndarray = wanted[labels]
    return kept


def _segment_copy(
    rgb: np.ndarray, region: Box, holes: Holes, colour: tuple[int, int, int] | None
) -> Segmentation:
    small = shrink(rgb, WORK_SIDE)
    lab = to_lab(small)
    backdrop = stated_backdrop(lab, colour) if colour else find_plain_backdrop(lab)
    if backdrop is None:
        guess = significant(grabcut(small))
        filled = settle_holes(guess, "fill" if holes == "fill" else "keep")
        return Segmentation(region, filled.mask, plain=False)
    faint = np.linalg.norm(lab - backdrop.surface, axis=2) < FEATURE_CONTRAST
    found = segment_on_backdrop(lab, backdrop)
    return _told(region, settle_holes(found, holes, faint, framed=True))


def _told(region: Box, settled: Settled) -> Segmentation:
    return Segmentation(
        region,
        significant(settled.mask),
        doubtful=settled.doubtful,
        floating=settled.floating,
        cut_off=settled.cut_off,
        at_edge=settled.at_edge,
        joined=settled.joined,
    )
