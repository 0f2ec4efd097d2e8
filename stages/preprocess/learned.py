"""What the sketch's network says of where the object is, and how sure it is of that.

The network sees squares of 256 pixels; what is not square goes in with its border repeated (the
mean colour or white beside it cost a quarter of the overlap on textured grounds). An object that is
small in the frame is looked at again in a closer crop, because the network has learned from
pictures that an object fills by 40 to 85 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from stages.models.sketch_net import SIDE
from stages.preprocess.box import Box, bounding_box
from stages.preprocess.guided import guided_filter
from stages.preprocess.resample import shrink

OPEN = (0.2, 0.8)
"""Between these shares of the object the network has not made up its mind."""

RADIUS = 3.0
"""Of the guided filter, in pixels of the network's square."""

FOCUS_BELOW = 0.5
"""An object smaller than this share of the frame is looked at again in a closer crop."""

Network = Callable[[np.ndarray], np.ndarray]
"""(256, 256, 3) uint8 sRGB -> (256, 256) float32, the object's share of each pixel."""


@dataclass(frozen=True)
class Seen:
    """What the network says of a picture (h, w, 3).

    share   (h, w) float32 in [0, 1], how likely each pixel is the object's
    mask    (h, w) bool, the object, with the picture's own edges
    open    pixels that are undecided, for each pixel of the object; infinite without an object.
            0.02 to 0.15 on pictures that are cut out well, the soft rim included
    """

    share: np.ndarray
    mask: np.ndarray
    open: float


def load_network() -> Network:
    """The shipped network. onnxruntime is imported here.

    Raises OSError where the installation lacks its weights, ValueError where they are others.
    """
    from stages.models import sketch_net
    from stages.models.sketch_net import predict

    net = predict.load_network(sketch_net.WEIGHTS)
    return lambda square: predict.sketch(net, square).alpha


def look(rgb: np.ndarray, network: Network) -> Seen:
    """Where the network sees an object in a picture (h, w, 3) uint8."""
    height, width = rgb.shape[:2]
    share, undecided = _ask(rgb, network)
    found = bounding_box(share > 0.5)
    longest = max(height, width)
    if found is not None and found.longest < FOCUS_BELOW * longest:
        near = found.grown(max(8.0, 0.2 * found.longest)).outward().within(width, height)
        closer, near_undecided = _ask(rgb[near.slices], network)
        if near_undecided < undecided:
            share, undecided = _pasted(closer, near, share.shape), near_undecided
    radius = max(1, round(RADIUS * longest / SIDE))
    return Seen(share, guided_filter(share, rgb, radius) > 0.5, undecided)


def _ask(rgb: np.ndarray, network: Network) -> tuple[np.ndarray, float]:
    """The object's share (h, w) float32 of each pixel, and `Seen.open`."""
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    small = cv2.resize(shrink(rgb, SIDE), size, interpolation=way)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    rest = (top, SIDE - size[1] - top, left, SIDE - size[0] - left)
    square = cv2.copyMakeBorder(small, *rest, cv2.BORDER_REPLICATE)
    told = network(square)[top : top + size[1], left : left + size[0]]
    covered = int((told > 0.5).sum())
    undecided = int(((told > OPEN[0]) & (told < OPEN[1])).sum())
    share = cv2.resize(told, (width, height), interpolation=cv2.INTER_LINEAR)
    return share, undecided / covered if covered else float("inf")


def _pasted(share: np.ndarray, where: Box, shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, np.float32)
    whole[where.slices] = share
    return whole
