"""Several pictures of one object, each cut out by itself, brought to one scale and one frame.

Cameras at one distance see one object about equally high from all sides. So its height is the
measure, and the object's widest or highest side decides how large all of them are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stages.preprocess.box import Box, bounding_box

Side = Literal["back", "left", "right"]
SIDES: tuple[Side, ...] = ("back", "left", "right")
"""What a picture beside the front may show, in the order of `given_views`."""
ROUNDING = 0.01
"""By which a side may be wider than the front is long, without another scale for it."""
HALF = 127
"""Coverage above it is inside the outline."""


@dataclass(frozen=True)
class Framed:
    """An object on a square canvas.

    image  (S, S, 3) uint8 sRGB on white
    alpha  (S, S, 1) uint8, 255 = object
    """

    image: np.ndarray
    alpha: np.ndarray

    @property
    def box(self) -> Box:
        """Around the object: around all that is covered a little, where nothing is by half."""
        found = bounding_box(self.alpha[..., 0] > HALF) or bounding_box(self.alpha[..., 0] > 0)
        assert found is not None, "a cutout shows something"
        return found


def frame_alike(
    front: Framed, sides: Mapping[Side, Framed], ratio: float, max_side: int
) -> tuple[Framed, dict[Side, Framed]]:
    """All on canvases of one size, equally high and in the middle.

    ratio     of the canvas, that the longest of all heights and widths takes
    max_side  of the canvas, pixels. Below it the front keeps its resolution

    The front stays what it is where none of the sides is wider.
    """
    own = front.box
    aspects = [side.box.width / side.box.height for side in sides.values()]
    longest = max(1.0, own.width / own.height, *aspects)  # in heights
    if longest * own.height <= (1.0 + ROUNDING) * own.longest:
        return front, frame_like_front(front, sides)
    canvas = min(max_side, max(len(front.image), round(own.height * longest / ratio)))
    height = min(own.height, canvas * ratio / longest)
    middle = canvas / 2.0
    return (
        _placed(front, height, canvas, middle),
        {name: _placed(side, height, canvas, middle) for name, side in sides.items()},
    )


def frame_like_front(front: Framed, sides: Mapping[Side, Framed]) -> dict[Side, Framed]:
    """The sides as high as the front, and at its height, in the middle of canvases of its size."""
    box = front.box
    row = (box.top + box.bottom) / 2.0
    size = len(front.image)
    return {name: _placed(side, box.height, size, row) for name, side in sides.items()}


def stacked(sides: Mapping[Side, Framed], size: int) -> np.ndarray:
    """(3, size, size, 4) uint8, the artifact `given_views`."""
    result = np.full((len(SIDES), size, size, 4), 255, np.uint8)
    result[..., 3] = 0
    for layer, name in zip(result, SIDES, strict=True):
        if name in sides:
            layer[..., :3], layer[..., 3:] = sides[name].image, sides[name].alpha
    return result


def _placed(framed: Framed, height: float, canvas: int, row: float) -> Framed:
    """`framed` at the scale at which its object is `height` pixels high, on a white canvas, the
    middle of the object's box in the middle column and at `row`."""
    box = framed.box
    scale = height / box.height
    if abs(scale - 1.0) < 0.5 / max(box.height, box.width):
        scale = 1.0
    image, alpha = framed.image, framed.alpha[..., 0]
    if scale != 1.0:
        side = max(1, round(len(image) * scale))
        method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
        image, alpha = (
            cv2.resize(pixels, (side, side), interpolation=method) for pixels in (image, alpha)
        )
        scale = side / len(framed.image)
    left = round(canvas / 2.0 - scale * (box.left + box.right) / 2.0)
    top = round(row - scale * (box.top + box.bottom) / 2.0)
    target = Box(left, top, left + len(image), top + len(image)).within(canvas, canvas)
    source = target.moved(-left, -top)
    paper = np.full((canvas, canvas, 3), 255, np.uint8)
    cover = np.zeros((canvas, canvas, 1), np.uint8)
    paper[target.slices] = image[source.slices]
    cover[target.slices] = alpha[source.slices][..., None]
    return Framed(paper, cover)
