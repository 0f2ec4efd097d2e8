"""From a decoded picture to the object on a canvas, by each way of telling the object apart."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from stages.contract import BadInput
from stages.preprocess import reference
from stages.preprocess.box import Box, bounding_box
from stages.preprocess.framing import centre, plan_canvas
from stages.preprocess.matting import defringe_cutout, matte, over_white
from stages.preprocess.resample import scaled_crop, shrink
from stages.preprocess.segment import WORK_SIDE, Segmentation, segment, significant

Background = Literal["auto", "alpha", "rembg", "grabcut", "none"]
Framed = tuple[np.ndarray, np.ndarray]

MIN_SHARE = 0.005
"""Transparent and covered pixels must each make up this share for alpha to be a cutout: the
rounded corners of a screenshot or a stray pixel are none."""

CROP_MARGIN = 0.04
"""Kept around the object while its rim is worked out, of its longest side."""


def choose_background(
    rgba: np.ndarray, wanted: Background, threshold: int, has_network: bool = False
) -> Background:
    """Resolve "auto" for a picture (H, W, 4) uint8, and refuse what cannot work for it.

    has_network: whether the weights of rembg's network are on this machine.
    """
    alpha = rgba[..., 3]
    if int(alpha.max()) <= threshold:
        raise BadInput("the picture is fully transparent", "Use a picture that shows an object.")
    covered = float((alpha > threshold).mean())
    is_cutout = min(covered, 1.0 - covered) >= MIN_SHARE
    if wanted == "auto":
        without_alpha: Background = "rembg" if has_network else "grabcut"
        return "alpha" if is_cutout else without_alpha
    if wanted == "alpha" and not is_cutout:
        raise BadInput(
            "the picture has no transparency that tells the object from its background",
            "Use the preprocess param background=auto, or make the background transparent.",
        )
    return wanted


class Cutout:
    """One picture, (H, W, 4) uint8, with the settings that every way of framing it shares.

    background  a resolved one, see `choose_background`
    threshold   alpha above it belongs to the object
    ratio       longest side of the object, of the canvas
    mask        (H, W) uint8, the network's, for background "rembg"
    """

    def __init__(
        self,
        rgba: np.ndarray,
        background: Background,
        threshold: int,
        ratio: float,
        mask: np.ndarray | None = None,
    ) -> None:
        self.rgba = rgba
        self.background = background
        self.threshold = threshold
        self.ratio = ratio
        self.mask = mask

    def centered(self, max_side: int, defringe: bool) -> Framed:
        """Image (S, S, 3) on white and alpha (S, S, 1), uint8, the object in the middle."""
        if self.background == "alpha":
            return self._centered_alpha(self.rgba, max_side, defringe)
        if self.background == "grabcut":
            return self._centered_segment(max_side, defringe)
        if self.mask is not None:
            rgb = reference.flatten_on_grey(self.rgba)
            cut = np.concatenate([rgb, self.mask[..., None]], axis=-1)
            return self._centered_alpha(cut, max_side, defringe)
        return self._centered_whole(max_side)

    def as_reference(self) -> Framed:
        """The same pair framed as the reference does it; the mask is the only difference."""
        rgb = reference.flatten_on_grey(self.rgba)
        if self.background == "alpha":
            mask = self.rgba[..., 3]
        elif self.background == "grabcut":
            mask = self._full_mask(rgb)
        elif self.mask is not None:
            mask = self.mask
            if int(mask.max()) <= self.threshold:
                raise _nothing_left()
        else:
            mask = np.full(rgb.shape[:2], 255, np.uint8)
        return reference.frame(rgb, mask, self.ratio)

    def _centered_alpha(self, rgba: np.ndarray, max_side: int, defringe: bool) -> Framed:
        alpha = rgba[..., 3]
        height, width = alpha.shape
        seen = shrink(alpha, WORK_SIDE) > self.threshold
        kept = significant(seen)
        rough = Segmentation(Box(0, 0, width, height), kept).cropped(CROP_MARGIN)
        region = rough.region.outward().within(width, height)
        exact = bounding_box(alpha[region.slices] > self.threshold)
        canvas = plan_canvas((exact or region).longest, self.ratio, max_side)
        pixels = scaled_crop(rgba, region, canvas.scale)
        coverage = pixels[..., 3]
        if (kept != seen).any():
            coverage = np.where(_enlarge(rough.mask, coverage.shape), coverage, np.uint8(0))
        rgb = pixels[..., :3]
        colours = defringe_cutout(rgb, coverage) if defringe else rgb.astype(np.float32) / 255.0
        image = over_white(colours, coverage.astype(np.float32) / 255.0)
        return self._on_canvas(image, coverage, canvas.side)

    def _centered_segment(self, max_side: int, defringe: bool) -> Framed:
        rgb = _flatten_on_white(self.rgba)
        found = segment(rgb)
        box = found.object_box
        if box is None:
            raise _nothing_left()
        canvas = plan_canvas(box.longest, self.ratio, max_side)
        near = found.cropped(CROP_MARGIN)
        alpha, colours = matte(scaled_crop(rgb, near.region, canvas.scale), near.mask, defringe)
        return self._on_canvas(over_white(colours, alpha), _to_uint8(alpha), canvas.side)

    def _centered_whole(self, max_side: int) -> Framed:
        height, width = self.rgba.shape[:2]
        canvas = plan_canvas(max(height, width), self.ratio, max_side)
        pixels = scaled_crop(self.rgba, Box(0, 0, width, height), canvas.scale)
        whole = np.full(pixels.shape[:2], 255, np.uint8)
        return self._on_canvas(_flatten_on_white(pixels), whole, canvas.side)

    def _on_canvas(self, image: np.ndarray, alpha: np.ndarray, side: int) -> Framed:
        framed = centre(image, alpha, side, self.threshold)
        if framed is None:
            raise _nothing_left()
        return framed

    def _full_mask(self, rgb: np.ndarray) -> np.ndarray:
        """Mask (H, W) uint8 at the picture's own size, worked out at a bounded one."""
        found = segment(rgb)
        region = found.region
        scale = min(1.0, 2 * WORK_SIDE / region.longest)
        alpha, _ = matte(scaled_crop(rgb, region, scale), found.mask, False)
        if not (alpha * 255.0 > self.threshold).any():
            raise _nothing_left()
        mask = np.zeros(rgb.shape[:2], np.uint8)
        size = (int(region.width), int(region.height))
        mask[region.slices] = cv2.resize(_to_uint8(alpha), size, interpolation=cv2.INTER_LINEAR)
        return mask


def _nothing_left() -> BadInput:
    return BadInput(
        "nothing is left in the foreground",
        "The object does not stand out from its background: use a picture with more contrast, "
        "or a PNG whose background is transparent.",
    )


def _flatten_on_white(rgba: np.ndarray) -> np.ndarray:
    if int(rgba[..., 3].min()) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    return reference.blend(rgba[..., :3], reference.WHITE, rgba[..., 3:])


def _to_uint8(alpha: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = np.rint(alpha * 255.0).astype(np.uint8)
    return scaled


def _enlarge(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`mask` with a pixel of slack, at another resolution."""
    slack = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    large = cv2.resize(slack, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return large > 0
