"""Opaque picture -> mask of the object in front.

A plain backdrop is recognised and segmented by its colour; anything else is guessed (see `guess`).
Both work on a small copy; `matting` turns the mask into an alpha at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stages.preprocess.backdrop import (
    Backdrop,
    find_plain_backdrop,
    segment_on_backdrop,
    stated_backdrop,
    to_lab,
)
from stages.preprocess.box import Box, bounding_box
from stages.preprocess.faint_outline import faint_edge, is_long, with_faint_parts
from stages.preprocess.guess import SURE, Doubt, Eye, Guesser, Way, guess_by_colours
from stages.preprocess.highlights import is_modelled, white_pieces, with_highlights
from stages.preprocess.holes import Holes, Settled, settle_holes
from stages.preprocess.regions import significant
from stages.preprocess.resample import shrink
from stages.preprocess.shades import is_worth_a_look, shaded_in, with_pale_parts

WORK_SIDE = 512
"""Longest side of the copy that is segmented."""

FEATURE_CONTRAST = 15.0
"""Delta E from the backdrop that a feature has, and the noise of a JPEG beside an outline not."""

FOCUS_BELOW = 0.5
"""An object smaller than this share of the frame is segmented again in a closer crop."""


@dataclass(frozen=True)
class Segmentation:
    """Mask of the object within a part of the picture; there is no object outside of it.

    region    the part, in picture pixels
    mask      (h, w) bool, covering `region` at its own, usually lower, resolution
    way       what told the object
    doubt     why it is no more than a guess; "" where it is more
    doubtful, floating, cut_off, at_edge, joined
              what is doubtful about its holes, as in `holes.Settled`
    """

    region: Box
    mask: np.ndarray
    way: Way = "plain backdrop"
    doubt: Doubt = ""
    doubtful: float = 0.0
    floating: float = 0.0
    cut_off: float = 0.0
    at_edge: float = 0.0
    joined: bool = False

    @property
    def plain(self) -> bool:
        """Whether a plain backdrop told the object."""
        return self.way.startswith("plain backdrop")

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
    rgb: np.ndarray,
    holes: Holes = "auto",
    colour: tuple[int, int, int] | None = None,
    guess: Guesser = guess_by_colours,
    plain: bool = True,
    eye: Eye | None = None,
) -> Segmentation:
    """Find the object in an opaque picture (H, W, 3) uint8. The mask may come out empty.

    holes   what to make of enclosed pieces of a plain backdrop, see `settle_holes`
    colour  sRGB of the backdrop, where the user has said it
    guess   of the object where the backdrop is not plain
    plain   whether one that is plain is looked for; else all is guessed
    eye     what is asked where a plain backdrop may have pale parts of the object
    """
    height, width = rgb.shape[:2]

    def find(region: Box) -> Segmentation:
        return _segment_copy(rgb[region.slices], region, holes, colour, guess, plain, eye)

    whole = find(Box(0, 0, width, height))
    found = whole.object_box
    if (
        found is None
        or max(height, width) <= WORK_SIDE
        or found.longest > FOCUS_BELOW * max(height, width)
    ):
        return whole
    region = found.grown(max(8.0, 0.15 * found.longest)).outward().within(width, height)
    closer = find(region)
    # A closer look that is less sure than the first has lost what was around the object.
    return closer if closer.mask.any() and (whole.doubt or not closer.doubt) else whole


def _segment_copy(
    rgb: np.ndarray,
    region: Box,
    holes: Holes,
    colour: tuple[int, int, int] | None,
    guess: Guesser,
    plain: bool,
    eye: Eye | None,
) -> Segmentation:
    small = shrink(rgb, WORK_SIDE)
    lab = to_lab(small)
    backdrop = None
    if plain:
        backdrop = stated_backdrop(lab, colour) if colour else find_plain_backdrop(lab)
    if backdrop is None:
        guessed = guess(small)
        filled = settle_holes(guessed.mask, "fill" if holes == "fill" else "keep")
        return Segmentation(region, filled.mask, way=guessed.way, doubt=guessed.doubt)
    off = np.linalg.norm(lab - backdrop.surface, axis=2)
    found = segment_on_backdrop(lab, backdrop)
    settled = settle_holes(found, holes, off < FEATURE_CONTRAST, framed=True)
    if eye is not None and holes != "keep":
        seen = _second_look(small, lab, backdrop, off, settled, eye)
        if seen is not None:
            return _told(region, seen, "plain backdrop and network")
    return _told(region, settled, "plain backdrop")


def _second_look(
    rgb: np.ndarray,
    lab: np.ndarray,
    backdrop: Backdrop,
    off: np.ndarray,
    settled: Settled,
    eye: Eye,
) -> Settled | None:
    """`settled` with what the network adds to it; None where it is not asked, not sure, or adds
    nothing. off: (h, w) float32, Delta E from the backdrop."""
    mask = settled.mask
    shaded = shaded_in(lab, backdrop, mask)
    pale = bool(settled.doubtful or settled.cut_off) or is_worth_a_look(mask, shaded)
    modelled = is_modelled(mask, lab)
    faint = faint_edge(mask, off)
    pieces = white_pieces(mask)
    if not (pale or (modelled and (pieces or is_long(faint, mask)))):
        return None
    seen = eye(rgb)
    if seen is None or seen.open > SURE:
        return None
    joined = mask
    if modelled:
        joined = with_highlights(mask, pieces, seen.share)
        joined = with_faint_parts(joined, faint, seen.share)
    if pale:
        joined = joined | with_pale_parts(mask, shaded, seen.share)
    if not (joined & ~mask).any():
        return None
    return Settled(joined) if pale else replace(settled, mask=joined)


def _told(region: Box, settled: Settled, way: Way) -> Segmentation:
    return Segmentation(
        region,
        significant(settled.mask),
        way,
        doubtful=settled.doubtful,
        floating=settled.floating,
        cut_off=settled.cut_off,
        at_edge=settled.at_edge,
        joined=settled.joined,
    )
