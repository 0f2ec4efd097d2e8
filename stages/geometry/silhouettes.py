"""Where is the object in each tile? Coverage, clean masks and signed distances to the outline."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from stages.contract import BadInput
from stages.geometry.threads import in_threads

NEAREST_TO_WHITE = 0.366
"""Distance in RGB between white and the nearest colour that encodes a unit normal,
(sqrt(3) - 1) / 2. White itself encodes none, so it marks the background."""
MIN_PART = 2e-4
"""Parts and holes below this share of a tile are taken for noise."""
PALE, PURE = 0.08, 0.02
"""Distances to white below which a colour may be background, and below which it hardly is not."""
MIN_HOLE = 2e-3
"""Share of a tile below which enclosed white is a spot."""
THIN = 10
"""Percentile of the middle lines' depth that stands for an object's thin parts."""
VIEW_NAMES = ("front", "left", "back", "right")


def coverage(tiles: np.ndarray) -> np.ndarray:
    """(4, S, S) float32 in [0, 1]: how much of each pixel the object covers.

    tiles  (4, S, S, 3) in [0, 1], normal maps or colours on white

    A pixel at the outline is a blend of white and the object's colour. Its distance to white is
    compared with that of its surroundings, so the 0.5 contour lies where the outline was,
    whatever the object's colour there. Away from the background there is nothing to compare:
    what is not white is object, also where a pale normal lies beside a dark one.
    """
    result = np.empty(tiles.shape[:3], np.float32)
    for k, tile in enumerate(tiles):
        distance = np.linalg.norm(1.0 - tile.astype(np.float32), axis=-1)
        around = np.ones((5, 5), np.uint8)
        full = cv2.dilate(distance, around)
        white = (distance < NEAREST_TO_WHITE / 4.0).astype(np.uint8)
        full = np.where(cv2.dilate(white, around), full, NEAREST_TO_WHITE)
        result[k] = np.clip(distance / np.maximum(full, NEAREST_TO_WHITE), 0.0, 1.0)
    return result


def clean(cover: np.ndarray) -> np.ndarray:
    """Remove specks and fill pinholes of (4, S, S) coverage.

    Raises BadInput if a view is left without an object: a hull needs all four.
    """
    result = cover.copy()
    least = max(4.0, MIN_PART * cover.shape[1] * cover.shape[2])
    for view, name in zip(result, VIEW_NAMES, strict=True):
        for value, fill in ((1, 0.0), (0, 1.0)):
            found = ((view > 0.5) == value).astype(np.uint8)
            count, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=4)
            dust = np.flatnonzero(stats[:count, cv2.CC_STAT_AREA] < least)
            view[np.isin(labels, dust[dust > 0])] = fill
        if not (view > 0.5).any():
            raise BadInput(
                f"the {name} tile shows no object on white",
                "all four tiles must show the object; look at the bundle image",
            )
    return result


def signed_distance(cover: np.ndarray, threads: int = 1) -> np.ndarray:
    """(4, S, S) float32: distance to the 0.5 contour in pixels, negative inside.

    Exact to a small part of a pixel next to the outline, where coverage tells on which side of a
    pixel's centre it runs. The same for any number of threads.
    """
    return np.stack(in_threads(_distance, list(cover), threads))


def _distance(view: np.ndarray) -> np.ndarray:
    """(S, S) float32, of one view."""
    inside = view > 0.5
    # A tile filled to its border has no outline there: the other views bound the object.
    if inside.all():
        return np.full(view.shape, -float(view.shape[0]), np.float32)
    # Not OpenCV's: the last bits of that depend on how many threads it happens to use.
    to_outside = distance_transform_edt(inside)
    to_inside = distance_transform_edt(~inside)
    whole = to_inside - to_outside + np.where(inside, 0.5, -0.5)
    near = np.abs(whole) < 1.0
    mixed = np.where(near, 0.5 - cv2.GaussianBlur(view, (0, 0), 0.5), whole)
    return np.asarray(mixed, np.float32)


def thinnest_part(distance: np.ndarray) -> float:
    """Width in pixels of the thin parts of (4, S, S) signed outline distances: a tenth of the
    middle lines, of the view where they are thinnest, is no wider."""
    widths = []
    for view in distance:
        depth = np.maximum(-view, 0.0)
        ridge = (depth > 0.0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
        if ridge.any():
            widths.append(2.0 * float(np.percentile(depth[ridge], THIN)))
    return max(1.0, min(widths, default=1.0))


def coverage_of_colors(views: np.ndarray) -> np.ndarray:
    """(4, S, S) float32 coverage of (4, S, S, 3) colours in [0, 1] on white.

    White that is joined to the tile's border is background. White enclosed by the object is a
    hole if it is pure and large, else a white spot on the object.
    """
    result = np.empty(views.shape[:3], np.float32)
    for k, view in enumerate(views):
        distance = np.linalg.norm(1.0 - view.astype(np.float32), axis=-1)
        pale = np.pad((distance < PALE).astype(np.uint8), 1, constant_values=1)
        count, labels = cv2.connectedComponents(pale, connectivity=4)
        outer, labels = labels[0, 0], labels[1:-1, 1:-1]
        background = labels == outer
        for label in range(1, count):
            enclosed = labels == label
            pure = distance[enclosed] < PURE
            if pure.size > MIN_HOLE * distance.size and pure.mean() > 0.9:
                background |= enclosed
        blurred = cv2.GaussianBlur(background.astype(np.float32), (0, 0), 0.7)
        result[k] = 1.0 - blurred
    return result
