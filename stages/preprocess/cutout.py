"""From a decoded picture to the object on a canvas, by each way of telling the object apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stages.contract import BadInput
from stages.preprocess import reference
from stages.preprocess.box import Box, bounding_box
from stages.preprocess.doubts import doubts_about
from stages.preprocess.framing import Canvas, centre, plan_canvas
from stages.preprocess.guess import Eye, Guesser, guess_by_colours
from stages.preprocess.holes import Holes, settle_holes
from stages.preprocess.matting import defringe_cutout, matte, over_white
from stages.preprocess.regions import significant
from stages.preprocess.resample import enlarge_mask, scaled_crop, shrink
from stages.preprocess.segment import WORK_SIDE, Segmentation, segment
from stages.preprocess.silhouette import full_alpha, silhouette_of
from stages.preprocess.usermask import SAYS_SO

Method = Literal["alpha", "mask", "rembg", "segment", "grabcut", "network", "colour", "keep"]
"""How the object is told from its background: "colour" by one that the user has said, "segment" and
"grabcut" by a plain backdrop, or where there is none by guessing, "network" by the shipped one."""
_OTHERS: dict[str, Method] = {
    "rembg": "rembg", "grabcut": "grabcut", "network": "network", "keep": "keep"
}  # fmt: skip
Framed = tuple[np.ndarray, np.ndarray]

MIN_SHARE = 0.005
"""Transparent and covered pixels must each make up this share for alpha to be a cutout: the
rounded corners of a screenshot or a stray pixel are none."""

MIN_OBJECT = 8
"""Pixels along the object's longest side below which there is nothing to make a mesh of."""

FEW_PIXELS = 96
"""Pixels along the object's longest side below which the run warns. The network of profile "sketch"
looks at squares of 256, of which the object takes about 200: of half as many it sees little more
than an outline."""

CROP_MARGIN = 0.04
"""Kept around the object while its rim is worked out, of its longest side."""

MIN_TRANSLUCENT = 0.05
"""A smaller share of the object is not told: a strand of hair, a cut-out's weak spots."""

HALF = 127
"""In the mask of a network or of the user, more than this is object."""

MATTE_SCALE = 8.0
"""Pixels that the rim is worked out in for each pixel of the mask, at most: beyond it the picture
has no detail, and the time grows with the cube."""


def choose_method(
    rgba: np.ndarray, wanted: str, threshold: int, has_network: bool = False, has_mask: bool = False
) -> Method:
    """Resolve the param `background` for a picture (H, W, 4) uint8, and refuse what cannot work.

    has_network: whether the weights of rembg's network are on this machine.
    has_mask: whether the user gave a mask, which decides alone.
    """
    alpha = rgba[..., 3]
    highest = int(alpha.max())
    if highest <= threshold:
        what = f"almost fully transparent: its alpha is {highest} of 255 at most"
        raise BadInput(
            f"the picture is {what if highest else 'fully transparent'}",
            "Use a picture that shows an object.",
        )
    if has_mask:
        return "mask"
    covered = float((alpha > threshold).mean())
    is_cutout = 1.0 - covered >= MIN_SHARE and (covered >= MIN_SHARE or covered < 0.5)
    if wanted == "auto":
        without_alpha: Method = "rembg" if has_network else "segment"
        return "alpha" if is_cutout else without_alpha
    if wanted == "alpha":
        if is_cutout:
            return "alpha"
        raise BadInput(
            "the picture has no transparency that tells the object from its background",
            "Use the preprocess param background=auto, or make the background transparent.",
        )
    return _OTHERS.get(wanted, "colour")


@dataclass(frozen=True)
class Cutout:
    """One picture, (H, W, 4) uint8, with the settings that every way of framing it shares.

    method      a resolved one, see `choose_method`
    threshold   alpha above it is covered by something
    ratio       longest side of the object, of the canvas
    holes       what to make of enclosed pieces of backdrop colour
    mask        (H, W) uint8, the network's or the user's, 255 = object
    colour      sRGB of the backdrop, for method "colour"
    warn        takes what is doubtful about the cutout
    guess       of the object where the backdrop is not plain
    eye         what is asked where a plain backdrop may have pale parts of the object
    tell        takes what told the object, once it is known
    """

    rgba: np.ndarray
    method: Method
    threshold: int
    ratio: float
    holes: Holes = "auto"
    mask: np.ndarray | None = None
    colour: tuple[int, int, int] | None = None
    warn: Callable[[str], None] = lambda text: None
    guess: Guesser = guess_by_colours
    eye: Eye | None = None
    tell: Callable[[str], None] = lambda way: None

    @property
    def tells_later(self) -> bool:
        """Whether only the search for the object shows what tells it."""
        return self.mask is None and self.method in ("segment", "grabcut", "network")

    def centered(self, max_side: int, defringe: bool) -> Framed:
        """Image (S, S, 3) on white and alpha (S, S, 1), uint8, the object in the middle."""
        if self.method == "keep":
            return self._centered_whole(max_side)
        if self.method == "alpha":
            return self._centered_alpha(self.rgba, max_side, defringe)
        if self.mask is not None:
            masked = np.concatenate([self._flat(), self.mask[..., None]], axis=-1)
            return self._centered_alpha(masked, max_side, defringe)
        return self._centered_segment(max_side, defringe)

    def as_reference(self) -> Framed:
        """The same pair framed as the reference does it; the mask is the only difference."""
        rgb = reference.flatten_on_grey(self.rgba)
        if self.method == "alpha":
            mask = self.rgba[..., 3]
        elif self.mask is not None:
            mask = self.mask
            if int(mask.max()) <= self.threshold:
                raise self._nothing_left()
        elif self.method == "keep":
            mask = np.full(rgb.shape[:2], 255, np.uint8)
        else:
            mask = self._full_mask(rgb)
        return reference.frame(rgb, mask, self.ratio)

    def _flat(self) -> np.ndarray:
        """(H, W, 3) uint8: what the network or the user has made the mask of."""
        if self.method == "rembg":
            return reference.flatten_on_grey(self.rgba)
        return _flatten_on(self.rgba, reference.WHITE)

    def _centered_alpha(self, rgba: np.ndarray, max_side: int, defringe: bool) -> Framed:
        alpha = rgba[..., 3]
        height, width = alpha.shape
        is_mask = self.method != "alpha"
        outer = bounding_box(alpha > (HALF if is_mask else self.threshold))
        if outer is None:
            raise self._nothing_left()
        outer = outer.grown(max(8, round(CROP_MARGIN * outer.longest))).within(width, height)
        small = shrink(rgba[outer.slices], WORK_SIDE)
        cut = False
        if is_mask:
            seen = small[..., 3] > HALF
        else:
            found = silhouette_of(small, self.threshold)
            seen = found.mask
            cut = found.cut
            self._tell_removed(found.shadow, found.glow)
            self._tell_translucent(found.translucent, found.opacity)
        if not seen.any():
            raise self._nothing_left()
        kept = significant(seen)
        if self.holes == "fill":
            kept = settle_holes(kept, "fill").mask
        near = Segmentation(outer, kept).cropped(CROP_MARGIN)
        self._tell_doubts(near)
        region = near.region.outward().within(width, height)
        exact = None
        if not cut and self.holes != "fill":
            exact = bounding_box(alpha[region.slices] > (HALF if is_mask else self.threshold))
        canvas = self._canvas(exact or near.object_box, max_side)
        pixels = scaled_crop(rgba, region, canvas.scale)
        step = pixels.shape[1] / near.mask.shape[1]
        inside = enlarge_mask(near.mask, pixels.shape[:2])
        coverage = pixels[..., 3]
        if is_mask:
            slack = cv2.dilate(inside.astype(np.uint8), np.ones((2 * round(step) + 3,) * 2))
            coverage = np.where(slack > 0, coverage, np.uint8(0))
        else:
            coverage = full_alpha(coverage, inside, step, cut)
        if self.holes == "fill":
            coverage = np.maximum(coverage, np.where(inside, np.uint8(255), np.uint8(0)))
        rgb = pixels[..., :3]
        colours = defringe_cutout(rgb, coverage) if defringe else rgb.astype(np.float32) / 255.0
        image = over_white(colours, coverage.astype(np.float32) / 255.0)
        return self._on_canvas(image, coverage, canvas.side)

    def _centered_segment(self, max_side: int, defringe: bool) -> Framed:
        rgb = _flatten_on(self.rgba, self.colour or reference.WHITE)
        found = self._segment(rgb)
        canvas = self._canvas(found.object_box, max_side)
        near = found.cropped(CROP_MARGIN)
        finest = MATTE_SCALE * near.mask.shape[1] / near.region.width
        scale = min(canvas.scale, finest)
        alpha, colours = matte(scaled_crop(rgb, near.region, scale), near.mask, defringe)
        image, coverage = over_white(colours, alpha), _to_uint8(alpha)
        if scale < canvas.scale:
            larger = canvas.scale / scale
            size = (round(alpha.shape[1] * larger), round(alpha.shape[0] * larger))
            image, coverage = (
                cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in (image, coverage)
            )
        return self._on_canvas(image, coverage, canvas.side)

    def _segment(self, rgb: np.ndarray) -> Segmentation:
        """The object by colour. Raises `BadInput` where nothing is left, or all of it."""
        plain = self.method != "network"
        found = segment(rgb, self.holes, self.colour, self.guess, plain, self.eye)
        if self.tells_later:
            self.tell(f"{found.way}, unsure" if found.doubt == "unsure" else found.way)
        if found.object_box is None:
            raise self._nothing_left()
        if self.colour is not None and found.mask.mean() > 0.995:
            raise BadInput(
                "no background of the stated colour reaches the picture's edge",
                "Say its colour with --background, or leave that out.",
            )
        self._tell_doubts(found)
        return found

    def _centered_whole(self, max_side: int) -> Framed:
        height, width = self.rgba.shape[:2]
        self._tell_small(Box(0, 0, width, height))
        canvas = plan_canvas(max(height, width), self.ratio, max_side)
        pixels = scaled_crop(self.rgba, Box(0, 0, width, height), canvas.scale)
        whole = np.full(pixels.shape[:2], 255, np.uint8)
        return self._on_canvas(_flatten_on(pixels, reference.WHITE), whole, canvas.side)

    def _canvas(self, box: Box | None, max_side: int) -> Canvas:
        if box is None:
            raise self._nothing_left()
        if box.longest < MIN_OBJECT:
            raise self._no_object(
                f"the object is only {box.width:.0f} x {box.height:.0f} pixels large, at least "
                f"{MIN_OBJECT} are needed along its longest side",
                "Use a picture that shows it larger; about 512 pixels across it is good.",
            )
        self._tell_small(box)
        return plan_canvas(box.longest, self.ratio, max_side)

    def _on_canvas(self, image: np.ndarray, alpha: np.ndarray, side: int) -> Framed:
        framed = centre(image, alpha, side, self.threshold)
        if framed is None:
            raise self._nothing_left()
        return framed

    def _nothing_left(self) -> BadInput:
        return self._no_object(
            "nothing is left in the foreground",
            "The object does not stand out from its background: use a picture with more contrast, "
            "a PNG whose background is transparent, or `run` with --mask FILE.",
        )

    def _no_object(self, message: str, hint: str) -> BadInput:
        """hint: where it is not the user's mask that says what the object is."""
        return BadInput(message, SAYS_SO if self.method == "mask" else hint)

    def _full_mask(self, rgb: np.ndarray) -> np.ndarray:
        """Mask (H, W) uint8 at the picture's own size, worked out at a bounded one."""
        found = self._segment(rgb)
        region = found.region
        scale = min(1.0, 2 * WORK_SIDE / region.longest)
        alpha, _ = matte(scaled_crop(rgb, region, scale), found.mask, False)
        if not (alpha * 255.0 > self.threshold).any():
            raise self._nothing_left()
        mask = np.zeros(rgb.shape[:2], np.uint8)
        size = (int(region.width), int(region.height))
        mask[region.slices] = cv2.resize(_to_uint8(alpha), size, interpolation=cv2.INTER_LINEAR)
        return mask

    def _tell_doubts(self, found: Segmentation) -> None:
        height, width = self.rgba.shape[:2]
        trimmed, masked = self.method == "alpha", self.method == "mask"
        for text in doubts_about(found, width, height, trimmed, masked):
            self.warn(text)

    def _tell_small(self, box: Box) -> None:
        if box.longest < FEW_PIXELS:
            self.warn(
                f"the object is only {box.width:.0f} x {box.height:.0f} pixels large: its mesh "
                "will have a coarse shape and blurred colours, because the picture shows few "
                "details; use one that shows it larger, about 512 pixels across"
            )

    def _tell_removed(self, shadow: float, glow: float) -> None:
        for share, what in ((shadow, "a dark shadow"), (glow, "a glow that fades out")):
            if share >= 0.02:
                self.warn(
                    f"{what} in the alpha channel, {share:.0%} of what it covers, was left out"
                )

    def _tell_translucent(self, share: float, opacity: float) -> None:
        if share >= MIN_TRANSLUCENT:
            self.warn(
                f"{share:.0%} of the object is translucent in the picture (about {opacity:.0%} "
                "opaque), and all of the mesh is opaque: it has a surface there and no "
                "transparency, which its material can be given in a 3D program"
            )


def _flatten_on(rgba: np.ndarray, back: int | tuple[int, int, int]) -> np.ndarray:
    if int(rgba[..., 3].min()) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    return reference.blend(rgba[..., :3], back, rgba[..., 3:])


def _to_uint8(alpha: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = np.rint(alpha * 255.0).astype(np.uint8)
    return scaled
