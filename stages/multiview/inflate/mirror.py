"""The far side of an object that is its own mirror image: what is seen, reflected.

Seen straight from its front or its side, an object shows one half twice or not at all. Between, as
a house seen from its corner, what is seen of one half is what is hidden of the other. The network
tells the plane roughly. Here it is turned and moved until the reflection contradicts the picture
least: it has to lie within the outline and nowhere before the surface that is seen, and where it
meets that surface, to have its colours. A plane that has no such evidence is not used. One upright
plane that mirrors a box, a house or a table often comes with a second across it, tried likewise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from stages.models.sketch_net import SIDE
from stages.models.sketch_net.predict import Sketch

LEAST_CERTAINTY = 0.3
"""Of the network's plane."""
OBLIQUE = (10.0, 80.0)
"""Degrees from the picture's horizontal to the plane's normal: with less hardly anything hidden is
a reflection of what is seen; with more hardly anything seen is one, to tell where the plane is."""
TURNS, TURNS_ACROSS = np.arange(-15.0, 15.1, 5.0), np.arange(-5.0, 5.1, 5.0)
"""Degrees about the upright by which the network's plane is turned, and one across it."""
OFFSET_STEP, OFFSET_MARGIN = 0.03, 0.2
"""Half widths: between the places that are tried, and beyond what is seen along the normal."""
FINE_TURNS, FINE_OFFSETS = np.arange(-2.5, 2.6, 1.25), np.arange(-0.04, 0.041, 0.01)
"""From the best of those, what is tried then."""
CLEAR, SOFT = 0.03, 0.12
"""Half widths by which a reflection may lie before the front, and over how many more it comes to
contradict it wholly."""
BESIDE, FAR = 1.5, 6.0
"""Pixels likewise beside the outline."""
UNLIKE = 50.0
"""Difference of CIE Lab channels, their mean, that counts as 1."""
BLUR = 1.5
"""Pixels by which colours are blurred that are compared: a plane is found to about so much."""
SAME = 0.08
"""Half widths between a reflection and the front that are one surface."""
WEIGHT = 0.3
"""Of unlike colours, and of unlike depths behind, beside contradictions."""
MOST_CONTRADICTION, MOST_UNLIKE, MOST_ASTRAY = 0.1, 0.08, 0.4
LEAST_SAME = 0.15
"""A plane is used with at most so much of each, each 0 to 1, and with at least this share of the
front reflected onto the front."""
ASTRAY = 0.3
"""Half widths between a reflection and the back that the network tells that count as 1."""
GRAZED = 0.1
"""Cosine between a surface and the line of sight, up to which it is hardly seen; from minus that on
it looks away."""
FACING = 0.3
"""Cosine from which on a reflection is compared with the front."""
ENOUGH = 3.0
"""What a third or more of the front tells counts fully, what less tells in proportion."""
STEEP = 0.06
"""Half widths between the depths of neighbours: more is not seen, but spanned between them."""
SCRAP = 9
"""Pixels across, of a reflection too small to be one."""
LEAST_SHARE = 0.1
"""Of the object's pixels behind which a reflection has to lie to be worth its borders."""
STRIDE, FINE = 4, 3
"""Every so many pixels one point tries planes; each pixel has so many points across in the
reflection itself."""


@dataclass(frozen=True)
class Front:
    """What a picture shows of an object: (256, 256) arrays in the units and axes of `Sketch`.

    inside  bool, where the object is and its depth is known
    depth   of the front, defined beyond the outline too
    back    of the last surface, as the network tells, likewise
    normal  (256, 256, 3) unit, of the front
    colour  (256, 256, 3) float32 sRGB in [0, 1]
    focal   distance of the camera, in half widths
    """

    inside: np.ndarray
    depth: np.ndarray
    back: np.ndarray
    normal: np.ndarray
    colour: np.ndarray
    focal: float

    @cached_property
    def points(self) -> np.ndarray:
        """(256, 256, 3): where the surface is."""
        at = (np.arange(SIDE) + 0.5) * 2.0 / SIDE - 1.0
        along, up = np.meshgrid(at, -at)
        near = 1.0 - self.depth / self.focal
        return np.stack([near * along, near * up, self.depth], axis=2)

    @cached_property
    def smooth(self) -> np.ndarray:
        """bool: what is seen, and neither grazed nor spanned over a step."""
        down, right = (np.abs(np.diff(self.depth, axis=axis)) for axis in (0, 1))
        step = np.zeros_like(self.depth)
        step[1:] = down
        step[:, 1:] = np.maximum(step[:, 1:], right)
        return np.asarray(self.inside & (self.normal[..., 2] > GRAZED) & (step < STEEP))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of (P, 3) points, float32, pixel centres at whole numbers."""
        near = 1.0 - points[:, 2] / self.focal
        column = (points[:, 0] / near + 1.0) * (SIDE / 2.0) - 0.5
        row = (1.0 - points[:, 1] / near) * (SIDE / 2.0) - 0.5
        return column.astype(np.float32), row.astype(np.float32)

    def facing(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """(P,) cosines between normals and the direction to the camera."""
        ray = np.array([0.0, 0.0, self.focal]) - points
        return np.asarray(np.einsum("pc,pc->p", normals, ray) / np.linalg.norm(ray, axis=1))


@dataclass(frozen=True)
class Plane:
    """The points p with p @ normal = offset: (3,) unit normal in camera axes, offset from the
    object's middle in half widths."""

    normal: np.ndarray
    offset: float

    def reflect(self, points: np.ndarray) -> np.ndarray:
        """(P, 3) points, mirrored."""
        return self.turn(points) + 2.0 * self.offset * self.normal

    def turn(self, directions: np.ndarray) -> np.ndarray:
        """(P, 3) directions, mirrored."""
        return np.asarray(directions - 2.0 * np.outer(directions @ self.normal, self.normal))


@dataclass(frozen=True)
class Reflection:
    """The last surfaces on the rays, where they are reflections: (256, 256) arrays.

    known   bool, where
    depth   towards the camera
    normal  (256, 256, 3) unit; of a surface that looks away from the camera
    source  (256, 256, 2) float32, column and row where the picture shows the same
    """

    known: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    source: np.ndarray

    def over(self, other: Reflection) -> Reflection:
        """This one, and the other where this is not known."""
        known = self.known[..., None]
        return Reflection(
            self.known | other.known,
            np.where(self.known, self.depth, other.depth),
            np.where(known, self.normal, other.normal),
            np.where(known, self.source, other.source),
        )


def reflected(front: Front, told: Sketch) -> Reflection | None:
    """What the object's mirror planes tell of its far side; None without a plane that fits."""
    azimuth = _upright(float(np.degrees(np.arctan2(told.mirror[2], told.mirror[0]))))
    if told.mirror_certainty < LEAST_CERTAINTY or not _oblique(azimuth):
        return None
    trial = _Trial(front, told.elevation)
    if (first := trial.best(azimuth + TURNS)) is None:
        return None
    made = _reflection(front, first[1])
    if (second := trial.best(_upright(first[0] + 90.0) + TURNS_ACROSS)) is not None:
        made = made.over(_reflection(front, second[1]))
    return made if made.known.sum() >= LEAST_SHARE * front.inside.sum() else None


def _upright(degrees: float) -> float:
    """The same plane's azimuth within -90 and 90."""
    return (degrees + 90.0) % 180.0 - 90.0


def _oblique(azimuth: float) -> bool:
    return OBLIQUE[0] <= abs(azimuth) <= OBLIQUE[1]


@dataclass(frozen=True)
class _Fit:
    """How a reflection of the front fits to the picture; means, each 0 to 1.

    contradiction  outside the outline, or before the front
    same           share that falls onto the front
    unlike         colours there
    behind         share that is behind the object, looking away
    astray         depths there from those that the network tells
    """

    contradiction: float
    same: float
    unlike: float
    behind: float
    astray: float

    @property
    def cost(self) -> float:
        unlike = self.unlike * min(1.0, ENOUGH * self.same)
        astray = self.astray * min(1.0, ENOUGH * self.behind)
        return self.contradiction + WEIGHT * (unlike + astray)

    @property
    def good(self) -> bool:
        return (
            self.same >= LEAST_SAME
            and self.contradiction <= MOST_CONTRADICTION
            and self.unlike <= MOST_UNLIKE
            and self.astray <= MOST_ASTRAY
        )


class _Trial:
    """Tries upright planes on some points of a front."""

    def __init__(self, front: Front, elevation: float) -> None:
        self._front, self._elevation = front, elevation
        chosen = np.zeros_like(front.inside)
        chosen[::STRIDE, ::STRIDE] = front.smooth[::STRIDE, ::STRIDE]
        self._points, self._normals = front.points[chosen], front.normal[chosen]
        inside = front.inside.astype(np.uint8)
        beside = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
        lab = cv2.cvtColor(cv2.GaussianBlur(front.colour, (0, 0), BLUR), cv2.COLOR_RGB2LAB)
        lab = np.asarray(lab / np.float32(UNLIKE), np.float32)
        self._own = lab[chosen]
        depths = np.stack([beside, front.depth, front.back], axis=2).astype(np.float32)
        self._maps = (lab, depths)

    def best(self, azimuths: np.ndarray) -> tuple[float, Plane] | None:
        """Azimuth and plane of the best fit, if it is good."""
        azimuths = np.array([each for each in azimuths if _oblique(_upright(each))])
        if len(self._points) < 2 or not len(azimuths):
            return None
        coarse = self._least(azimuths, None)
        fit, azimuth, plane = self._least(coarse[1] + FINE_TURNS, coarse[2].offset)
        return (azimuth, plane) if fit.good else None

    def _least(self, azimuths: np.ndarray, near: float | None) -> tuple[_Fit, float, Plane]:
        """The best plane with these azimuths; near: at about this offset, else anywhere."""
        tried = [
            (self._fit(plane), azimuth, plane)
            for azimuth in azimuths.tolist()
            for plane in self._planes(azimuth, near)
        ]
        return min(tried, key=lambda one: one[0].cost)

    def _planes(self, azimuth: float, near: float | None) -> list[Plane]:
        across, up = np.radians(azimuth), self._elevation
        depth = np.array([0.0, -np.sin(up), np.cos(up)])
        normal = np.cos(across) * np.array([1.0, 0.0, 0.0]) + np.sin(across) * depth
        if near is None:
            low, high = np.percentile(self._points @ normal, [5.0, 95.0])
            offsets = np.arange(low - OFFSET_MARGIN, high + OFFSET_MARGIN, OFFSET_STEP)
        else:
            offsets = near + FINE_OFFSETS
        return [Plane(normal, offset) for offset in offsets.tolist()]

    def _fit(self, plane: Plane) -> _Fit:
        points, normals = plane.reflect(self._points), plane.turn(self._normals)
        at = self._front.project(points)
        beside, depth, back = np.moveaxis(_sample(self._maps[1], at), 1, 0)
        outside = np.clip((beside - BESIDE) / FAR, 0.0, 1.0)
        before = np.clip((points[:, 2] - depth - CLEAR) / SOFT, 0.0, 1.0)
        within, facing = beside < 0.5, self._front.facing(points, normals)
        same = within & (facing > FACING) & (np.abs(points[:, 2] - depth) < SAME)
        behind = within & (facing < -GRAZED)
        unlike = np.abs(_sample(self._maps[0], at)[same] - self._own[same]).mean(axis=1)
        astray = np.clip(np.abs(points[behind, 2] - back[behind]) / ASTRAY, 0.0, 1.0)
        return _Fit(
            contradiction=float(np.where(within, before, outside).mean()),
            same=float(same.mean()),
            unlike=float(np.minimum(unlike, 1.0).mean()) if same.any() else 1.0,
            behind=float(behind.mean()),
            astray=float(astray.mean()) if behind.any() else 0.0,
        )


def _reflection(front: Front, plane: Plane) -> Reflection:
    """Of all that is seen, what then looks away from the camera; the farthest on each ray."""
    size = (SIDE * FINE, SIDE * FINE)
    seen = cv2.resize(front.smooth.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    both = np.concatenate([front.points, front.normal], axis=2).astype(np.float32)
    fine = cv2.resize(both, size, interpolation=cv2.INTER_LINEAR)[seen].astype(np.float64)
    normals = fine[:, 3:] / np.linalg.norm(fine[:, 3:], axis=1, keepdims=True)
    points, away = plane.reflect(fine[:, :3]), plane.turn(normals)
    column, row = (np.rint(at).astype(int) for at in front.project(points))
    kept = (np.minimum(column, row) >= 0) & (np.maximum(column, row) < SIDE)
    kept &= front.facing(points, away) < -GRAZED
    source = (np.argwhere(seen)[:, ::-1] + 0.5) / FINE - 0.5
    made = Reflection(
        np.zeros((SIDE, SIDE), bool),
        np.zeros((SIDE, SIDE)),
        np.zeros((SIDE, SIDE, 3)),
        np.zeros((SIDE, SIDE, 2), np.float32),
    )
    farthest_last = np.argsort(-points[kept, 2], kind="stable")
    at = row[kept][farthest_last], column[kept][farthest_last]
    made.known[at] = True
    made.depth[at] = points[kept, 2][farthest_last]
    made.normal[at] = away[kept][farthest_last]
    made.source[at] = source[kept][farthest_last]
    known = made.known & front.inside & (made.depth < front.depth)
    return replace(made, known=_without_scraps(known))


def _without_scraps(known: np.ndarray) -> np.ndarray:
    """Single points, and borders that they leave ragged, are no surface."""
    dense = (cv2.blur(known.astype(np.float32), (5, 5)) > 0.5).astype(np.uint8)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SCRAP, SCRAP))
    return known & (cv2.morphologyEx(dense, cv2.MORPH_OPEN, disk) > 0)


def _sample(values: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(P, C) `values` (256, 256, C) float32 at columns and rows (P,)."""
    column, row = at
    return cv2.remap(
        values, column[None], row[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )[0]
