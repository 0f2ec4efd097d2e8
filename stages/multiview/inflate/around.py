"""What of a front goes on round to the back, and what ends on the front.

A roof, a scarf or hair is cut off by the outline, and goes on behind it. Eyes, doors, visors and
buttons lie within other colours: they are on the front alone, with their colours and with their
shape, of which the network tells a faint copy behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.multiview.inflate.spread import spread

EDGE = 9.0
"""Distance in CIE Lab over a hundredth of the picture's side that is a border between regions: an
edge has 20 to 100, paint that fades or was lit from one side up to 3."""
BLUR, LEAK = 0.003, 0.0125
"""Shares of the picture's side: a blur of the colours, and the width up to which a gap in a
region's border is closed."""
RIM = 0.02
"""Share of the picture's side: what lies so near to the outline reaches it."""
TOUCH = 0.12
"""Length along the outline, over the root of its area, from which on a region goes on behind it:
eyes and doors have 0, a scarf that is cut off at both ends .3."""
DARK, LINED = 0.35, 0.8
"""Mean of the channels of a dark line, at most, and the share of an outline that is as dark where a
drawing has a line round it."""
WIDEST_LINE = 0.023
"""Share of the picture's side: half the breadth of the closing that removes dark lines."""
ALONG_ROWS = 1.5
"""How much farther colours spread along rows than along columns: most things look alike all round
at one height."""
BORDER, SMALL = 0.016, 0.05
"""Shares of the picture's side: what is added round what ends, and the radius up to which that may
lie anywhere."""
NEAR = 0.6
"""Distance from the outline over its radius up to which a larger one is too near to that."""
SOFT = 0.005
"""Share of the picture's side over which regions go over into what is spread behind others."""


@dataclass(frozen=True)
class Around:
    """The front of an object by what goes on round to its back.

    colours   (N, N, 3) float32 sRGB in [0, 1]: the object's, without the dark line round a drawing
    goes_on   (N, N) bool: where a region goes on behind the outline
    enclosed  (N, N) bool: where one does not
    depth     (N, N) float32 pixels to the outline, 0 beside the object
    """

    colours: np.ndarray
    goes_on: np.ndarray
    enclosed: np.ndarray
    depth: np.ndarray

    def ends(self, well_within: bool = False) -> np.ndarray:
        """(N, N) bool: what ends on the front, with its border. A line between regions that go on
        reaches the outline as they do.

        well_within  leave out what is large and near the outline: too little is round about it to
                     tell how a surface goes on there
        """
        size = len(self.depth)
        border = np.ones((2 * round(BORDER * size) + 1,) * 2, np.uint8)
        rim = self.depth <= RIM * size
        rest = ((self.depth > 0) & ~self.goes_on).astype(np.uint8)
        _, labels = cv2.connectedComponents(rest, connectivity=8)
        alone = (labels > 0) & ~np.isin(labels, np.unique(labels[rim]))
        ending = (alone | self.enclosed).astype(np.uint8)
        if well_within:
            count, labels = cv2.connectedComponents(ending, connectivity=8)
            radius, nearest = np.zeros(count), np.full(count, np.inf)
            np.maximum.at(radius, labels, cv2.distanceTransform(ending, cv2.DIST_L2, 5))
            np.minimum.at(nearest, labels, self.depth)
            within = np.maximum(SMALL * size, nearest / NEAR) >= radius
            ending *= within[labels]
        return np.asarray((cv2.dilate(ending, border) > 0) & ~rim)

    def behind(self) -> np.ndarray:
        """(N, N, 3) float32: the front without what ends there, for the back's colours."""
        kept = (self.goes_on & ~self.ends()).astype(np.float32)
        if not kept.any():
            return self.colours
        size = len(kept)
        narrow = (round(size / ALONG_ROWS), size)
        share = cv2.resize(kept, narrow, interpolation=cv2.INTER_AREA)
        weighted = cv2.resize(self.colours * kept[..., None], narrow, interpolation=cv2.INTER_AREA)
        far = spread(weighted / np.maximum(share, 1e-6)[..., None], share)
        far = cv2.resize(far, (size, size), interpolation=cv2.INTER_LINEAR)
        part = np.clip(2.0 * cv2.GaussianBlur(kept, (0, 0), SOFT * size) - 1.0, 0.0, 1.0)
        return np.asarray(far + part[..., None] * (self.colours - far), np.float32)


def look_around(colours: np.ndarray, picture: np.ndarray, inside: np.ndarray) -> Around:
    """Part an object's front.

    colours  (N, N, 3) float32 sRGB in [0, 1], the object's own, defined beyond the outline too
    picture  (N, N, 3) float32 sRGB in [0, 1], as it was given
    inside   (N, N) bool, where the object is
    """
    depth = _depth(inside)
    if _has_line_round(picture, depth):
        colours = _without_lines(colours, inside)
    return Around(colours, *_regions(colours, inside, depth), depth)


def _regions(
    colours: np.ndarray, inside: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) bool: regions of even colour that lie along enough of the outline, and the others."""
    size = len(inside)
    smooth = cv2.GaussianBlur(colours, (0, 0), BLUR * size)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    slopes = [cv2.Sobel(lab, cv2.CV_32F, *axis, scale=0.125) for axis in ((1, 0), (0, 1))]
    step = np.sqrt(sum((slope**2).sum(axis=2) for slope in slopes)) * (size / 100.0)
    even = (inside & (step < EDGE)).astype(np.uint8)
    gap = 2 * round(LEAK * size / 2.0) + 1
    even = cv2.morphologyEx(even, cv2.MORPH_OPEN, np.ones((gap, gap), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(even, connectivity=4)
    at_rim = inside & (depth <= RIM * size)
    length = np.bincount(labels[at_rim], minlength=count) / (RIM * size)
    reaches = length > TOUCH * np.sqrt(stats[:count, cv2.CC_STAT_AREA])
    reaches[0] = False  # the borders themselves, and what is beside the object
    return np.asarray(reaches[labels]), np.asarray((labels > 0) & ~reaches[labels])


def _without_lines(colours: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(N, N, 3) float32 `colours` without dark lines at the outline and between parts: a grey
    closing of what is inside."""
    width = 2 * round(WIDEST_LINE * len(inside)) + 1
    kernel, within = np.ones((width, width), np.uint8), inside[..., None]
    wide = cv2.dilate(np.where(within, colours, np.float32(-1.0)), kernel)
    closed = cv2.erode(np.where(within, wide, np.float32(2.0)), kernel)
    return np.where(within, closed, colours)


def _has_line_round(picture: np.ndarray, depth: np.ndarray) -> bool:
    pixel = len(depth) / 320.0
    ring = (depth > pixel) & (depth < 3.0 * pixel)
    return bool(ring.any() and (picture.mean(axis=2)[ring] < DARK).mean() >= LINED)


def _depth(inside: np.ndarray) -> np.ndarray:
    """(N, N) pixels to the outline, or to the picture's border; 0 beside the object."""
    padded = np.pad(inside.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
