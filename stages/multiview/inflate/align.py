"""Where the given sides belong in their tiles: where all outlines are outlines of one body.

The pictures arrive equally high and in the middle. But what is near one camera is far from the
opposite one: a chair's legs reach deeper into the front view than into the back's, and the
user's cameras stood where they stood. So each side is scaled and moved a little in its tile, the
front staying as it is, until the hull of all outlines fills each of them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from stages.geometry.cameras import bundle_cameras

NODES, HALF_EXTENT = 60, 1.15
"""Of the grid in which hulls are made, along each axis, and half its side in frame W."""
PIXELS = 48
"""Of a tile's side, in which it is asked whether a ray meets the hull: each has nodes behind it."""
DISTANCES = 128
"""Side of the outlines' distance maps."""
FARTHEST = 4.0
"""Distance, in their pixels, from which a ray misses the hull as much as it can."""
FIRST_STEP, LEVELS, ROUNDS = 0.03, 4, 3
"""Of the search, shares of a tile; each level halves the step."""
MOST = 0.15
"""Of scale or tile, by which a side is changed."""
EFFORT = 0.05
"""Misfit that a change of 1 costs: what makes no difference stays as it is."""


@dataclass(frozen=True)
class Placement:
    """A picture's scale about the tile's middle, and how far it is moved then, shares of a tile."""

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def apply(self, image: np.ndarray, border: float) -> np.ndarray:
        """A tile (S, S[, C]) float32 so changed; what comes in from outside is `border`."""
        if self == Placement():
            return image
        size = len(image)
        shift = (0.5 - 0.5 * self.scale) * size - (0.5 - 0.5 * self.scale)
        matrix = np.array(
            [
                [self.scale, 0.0, shift + self.right * size],
                [0.0, self.scale, shift + self.down * size],
            ]
        )
        moved = cv2.warpAffine(
            image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderValue=(border,) * 3
        )
        return np.clip(moved, 0.0, 1.0)


class Outlines:
    """How well some outlines fit to one body.

    covers  view (0 front, 1 left, 2 back, 3 right) -> (S, S) coverage
    """

    def __init__(self, covers: Mapping[int, np.ndarray]) -> None:
        axis = np.linspace(-HALF_EXTENT, HALF_EXTENT, NODES)
        nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        self._at: dict[int, np.ndarray] = {}
        self._cover: dict[int, np.ndarray] = {}
        self._distance: dict[int, np.ndarray] = {}
        self._rays: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for view, cover in covers.items():
            at, _ = bundle_cameras()[view].project(nodes, 1)
            self._at[view] = at.astype(np.float32)
            size = (DISTANCES, DISTANCES)
            self._cover[view] = cv2.resize(cover, size, interpolation=cv2.INTER_AREA)
            self._distance[view] = _signed_distance(self._cover[view])
            column, row = np.moveaxis(np.clip(at * PIXELS, 0, PIXELS - 1).astype(int), -1, 0)
            pixel = row * PIXELS + column
            order = np.argsort(pixel, kind="stable")
            which, first = np.unique(pixel[order], return_index=True)
            self._rays[view] = (order, which, first)

    def seen(self, view: int, placed: Placement) -> np.ndarray:
        """(nodes,) float32: distance to the outline of each node in this view, in pixels of
        `DISTANCES`, negative inside."""
        at = (self._at[view] - (placed.right, placed.down) - 0.5) / placed.scale + 0.5
        where = (at * DISTANCES - 0.5).astype(np.float32).reshape(NODES, -1, 2)
        found = cv2.remap(
            self._distance[view], where[..., 0], where[..., 1], cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return np.asarray(found.reshape(-1) * placed.scale)

    def misfit(self, seen: Mapping[int, np.ndarray], placed: Mapping[int, Placement]) -> float:
        """0 to 1: how much of the outlines no part of their hull is behind, mean of the views."""
        hull = np.maximum.reduce(list(seen.values()))
        missed = []
        for view, (order, which, first) in self._rays.items():
            nearest = np.full(PIXELS * PIXELS, FARTHEST)
            nearest[which] = np.minimum.reduceat(hull[order], first)
            own = placed[view].apply(self._cover[view], 0.0)
            inside = cv2.resize(own, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA) > 0.6
            short = np.clip(nearest[inside.ravel()], 0.0, FARTHEST) / FARTHEST
            missed.append(float(short.mean()) if len(short) else 1.0)
        return float(np.mean(missed))


def align(covers: Mapping[int, np.ndarray]) -> tuple[dict[int, Placement], float]:
    """How to place each picture but the front (view 0), and the misfit that is left."""
    outlines = Outlines(covers)
    placed = dict.fromkeys(covers, Placement())
    seen = {view: outlines.seen(view, placed[view]) for view in covers}
    best = outlines.misfit(seen, placed)
    step = FIRST_STEP
    for _ in range(LEVELS):
        for _ in range(ROUNDS):
            before = best
            for view in covers:
                for change in ("scale", "right", "down") if view else ():
                    for by in (step, -step):
                        old = placed[view]
                        new = replace(old, **{change: getattr(old, change) + by})
                        if _effort(new) > MOST:
                            continue
                        trial = {**placed, view: new}
                        looked = {**seen, view: outlines.seen(view, new)}
                        cost = outlines.misfit(looked, trial)
                        cost += EFFORT * sum(_effort(one) for one in trial.values())
                        if cost < best - 1e-5:
                            best, placed, seen = cost, trial, looked
            if best > before - 1e-4:
                break
        step /= 2.0
    return placed, outlines.misfit(seen, placed)


def _effort(placed: Placement) -> float:
    return max(abs(placed.scale - 1.0), abs(placed.right), abs(placed.down))


def _signed_distance(cover: np.ndarray) -> np.ndarray:
    """(S, S) float32, pixels, negative inside."""
    inside = (cover > 0.5).astype(np.uint8)
    outward = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    inward = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    return np.asarray(outward - inward, np.float32)
