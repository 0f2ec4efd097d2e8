"""Front and thickness of an object as the sketch's network sees them, ready to be welded."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    maximum_filter,
    minimum_filter,
)

from stages.geometry.cameras import bundle_cameras
from stages.geometry.masks import nearest_known
from stages.geometry.normal_integration import integrate_normals
from stages.models.sketch_net import SIDE
from stages.models.sketch_net.opening import See
from stages.models.sketch_net.predict import Sketch
from stages.multiview.inflate.around import look_around
from stages.multiview.inflate.frontal import flattened
from stages.multiview.inflate.ground import Standing, above_ground
from stages.multiview.inflate.mirror import Front, Reflection, reflected
from stages.multiview.inflate.slender import bounded
from stages.multiview.inflate.spread import spread
from stages.multiview.inflate.standing import ground_under, leaning
from stages.multiview.inflate.stems import straightened
from stages.multiview.inflate.wires import wired

ANCHOR = 0.1
"""Pull of the network's depth at an expected error of `USUAL_ERROR`, against its normals."""
BEHIND = 0.3
"""Of that pull, on the back: what is told of its depth has rings and ridges, its normals have none.
With .1 backs of 16 shapes are smoother still, but .01 worse in F-score, with .3 by .002."""
USUAL_ERROR = 0.05
LEAST_ERROR = 0.02
"""Half widths; the network's expectation is not believed below it."""
DOUBT = 0.5
"""Error that a thickness of 1 is taken to have where the network has no certainty at all."""
FROM_THE_SIDE = (0.6, 0.9)
"""Cosine between the mirror plane's normal and the line of sight: from the first to the second,
more and more of all that is seen is taken to be on the back too, as a car's wheels are.
Below, an object is seen from its front, and eyes, doors and lettering do not go to the back."""
FREE, AROUND, SOFT = 0.0005, 2.0, 2.0
"""Behind what ends on the front: what is left of the depths' pull against the normals, and blurs in
pixels, of what lies round about and of its border."""
FADE, JOIN = 2.0, 10.0
"""Pixels over which reflected colours begin, and reflected depths end."""
SPIKE = 5
"""Pixels: at edges the network wavers between what is near and what is far."""
GAINS = (0.4, 1.0)
"""Least and most by which the told paint is made as bright as the picture."""
THINNEST = 0.02
"""Half widths."""


@dataclass(frozen=True)
class Sheets:
    """(256, 256) float64 each, in half widths of the picture at the object's middle, defined beyond
    the outline too.

    front      towards the camera
    thickness  > 0, from the front to the last surface on the same ray
    albedo     (256, 256, 3) float32 sRGB in [0, 1], the object's colours without light and shade
    behind     (256, 256, 3) the same of the far side, where that is like the side that is seen
    leaning    degrees by which the object leans back, as it was seen from above, negative: forward;
               0: it does not, or nobody can tell
    detail     float32, how likely it is that, 0 to 1
    """

    front: np.ndarray
    thickness: np.ndarray
    albedo: np.ndarray
    behind: np.ndarray
    leaning: float
    detail: np.ndarray

    def fitted(self, scale: float, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Front and thickness, (size, size), of the picture shrunk by `scale` about its middle."""
        front, thickness = (
            scale * _shrunk(values, scale, size) for values in (self.front, self.thickness)
        )
        return front, thickness

    def colours(self, scale: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`albedo` and `behind`, (size, size, 3), and `detail`, (size, size), of the picture shrunk
        by `scale` about its middle."""
        albedo, behind, detail = (
            _shrunk(values, scale, size) for values in (self.albedo, self.behind, self.detail)
        )
        return albedo, behind, detail


def _shrunk(values: np.ndarray, scale: float, size: int) -> np.ndarray:
    """(256, 256, ...) `values` of a picture at (size, size) pixels, shrunk about its middle; beyond
    the picture its border's values go on."""
    ratio = SIDE / size / scale
    shift = SIDE / 2.0 * (1.0 - 1.0 / scale) - 0.5 + 0.5 * ratio
    warp = np.array([[ratio, 0.0, shift], [0.0, ratio, shift]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(values, warp, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def as_the_network_takes(picture: np.ndarray) -> np.ndarray:
    """(S, S, 3) float32 in [0, 1] -> (256, 256, 3) uint8."""
    shown = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.rint(shown * 255.0).astype(np.uint8)


def see_sheets(see: See, picture: np.ndarray, alpha: np.ndarray) -> Sheets:
    """What the network sees, both its sheets smooth as its normals say; values go on beyond the
    outline.

    picture  (S, S, 3) float32 in [0, 1], on white
    alpha    (S, S) float32 in [0, 1], not empty
    """
    shown = as_the_network_takes(picture)
    told = see(shown)
    inside = cv2.resize(alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5
    if not inside.any():  # a thread: inflate_body tells what cannot be seen at all
        inside = cv2.resize(alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.0
    error = np.maximum(told.front_error, LEAST_ERROR).astype(np.float64)
    known = _trusted(inside)
    focal = bundle_cameras()[0].focal
    front = integrate_normals(told.front, told.normal, known, focal, _anchor(error))
    shown = shown / np.float32(255.0)
    gain = _gain(shown, told.albedo, inside)
    albedo = nearest_known(gain * told.albedo, known)
    last = _without_spikes(told.front - told.thickness, known)
    seen = Front(
        known, nearest_known(front, known), nearest_known(last, known), told.normal, shown, focal
    )
    mirrored = reflected(seen, told)
    share = float(np.interp(abs(told.mirror[2]), FROM_THE_SIDE, (0.0, 1.0)))
    around, ending = look_around(albedo, shown, known), np.zeros_like(known)
    if share < 0.5:  # else wheels and windows are on the far side as well
        ending = around.ends(well_within=True)
    back = _back(told, last, known, mirrored, ending)
    front, back = flattened(front, back, known, told, around)
    ground = ground_under(told)
    below = None if ground is None else float(np.deg2rad(ground.below))
    front, back = straightened(front, back, known, below)
    if ground is not None and below is not None:
        back = above_ground(back, Standing(front, told.normal, known, focal, below), ground.level)
    front, back = bounded(front, back, known, np.deg2rad(abs(leaning(told))))
    front, back = wired(front, back, known)
    behind, detail = albedo, np.full(known.shape, share, np.float32)
    if mirrored is not None:
        behind, detail = _painted(mirrored, albedo, behind, detail)
    return Sheets(
        front=nearest_known(front, known),
        thickness=nearest_known(np.maximum(front - back, THINNEST), known),
        albedo=albedo,
        behind=behind,
        leaning=leaning(told),
        detail=detail,
    )


def _back(
    told: Sketch,
    last: np.ndarray,
    known: np.ndarray,
    mirrored: Reflection | None,
    ending: np.ndarray,
) -> np.ndarray:
    """(256, 256) depths of the last surface.

    last    (256, 256) as the network tells them
    known   (256, 256) bool, where the object is
    ending  (256, 256) bool: what is on the front alone, of which the back has no copy
    """
    away = told.behind_normal
    doubt = DOUBT * told.thickness * (1.0 - told.certainty)
    pull = BEHIND * _anchor(np.maximum(doubt, USUAL_ERROR))
    if (ending & known).any() and (known & ~ending).any():
        share = cv2.GaussianBlur(ending.astype(np.float32), (0, 0), SOFT)
        last, away = _carried_on(last, away, known, share)
        pull = FREE**share * pull
    if mirrored is not None:
        last = _joined(last, mirrored)
        away = np.where(mirrored.known[..., None], mirrored.normal, away)
        pull = np.where(mirrored.known, ANCHOR, pull)
    # The last surface as a height field towards the camera has the opposite normals.
    return integrate_normals(last, -away, known, bundle_cameras()[0].focal, pull)


def _carried_on(
    last: np.ndarray, away: np.ndarray, known: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depths and normals of a back that go on as round about, where `share` (256, 256) is 1."""
    around = known * (1.0 - share) ** 2
    both = np.concatenate([last[..., None], away], axis=2).astype(np.float32)
    mixed = both + share[..., None] * (spread(both, around, AROUND) - both)
    normal = mixed[..., 1:]
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    return mixed[..., 0], normal / np.maximum(length, 1e-6)


def _joined(last: np.ndarray, mirrored: Reflection) -> np.ndarray:
    """`last` where it is reflected as it is there, beside it drawn to that: what the network tells
    of a back and what is seen in a mirror differ by some tenths, which is no step of the object."""
    known = mirrored.known.astype(np.float64)
    apart = np.where(mirrored.known, mirrored.depth - last, 0.0)
    share, drawn = (cv2.GaussianBlur(values, (0, 0), JOIN) for values in (known, apart))
    drawn *= np.minimum(2.0 * share, 1.0) / np.maximum(share, 1e-6)
    return np.asarray(np.where(mirrored.known, mirrored.depth, last + drawn))


def _painted(
    mirrored: Reflection, albedo: np.ndarray, behind: np.ndarray, detail: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`behind` and `detail` with the colours of what is reflected, fading at its borders."""
    column, row = np.ascontiguousarray(np.moveaxis(mirrored.source, 2, 0))
    same = cv2.remap(albedo, column, row, cv2.INTER_LINEAR)
    share = cv2.GaussianBlur(mirrored.known.astype(np.float32), (0, 0), FADE)
    share = np.where(mirrored.known, np.clip(2.0 * share - 1.0, 0.0, 1.0), np.float32(0.0))
    mixed = behind + share[..., None] * (same - behind)
    return mixed.astype(np.float32), np.maximum(detail, share)


def _without_spikes(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Without what reaches far back over less than `SPIKE` pixels of the object: a grey closing.
    Parts that are as thin as that by themselves stay."""
    wide = maximum_filter(np.where(known, depth, -np.inf), SPIKE)
    closed = minimum_filter(np.where(known, wide, np.inf), SPIKE)
    return np.where(known, closed, depth)


def _gain(picture: np.ndarray, albedo: np.ndarray, inside: np.ndarray) -> np.float32:
    """What makes the told paint as bright as the picture: sides and back are seen beside the front,
    which is the picture itself, and nobody can tell grey paint from white in the shade."""
    told = float(np.median(albedo[inside].mean(axis=1)))
    seen = float(np.median(picture[inside].mean(axis=1)))
    return np.float32(np.clip(seen / max(told, 1e-3), *GAINS))


def _anchor(error: np.ndarray) -> np.ndarray:
    return np.asarray(ANCHOR * (USUAL_ERROR / error) ** 2)


def _trusted(inside: np.ndarray) -> np.ndarray:
    """Pixels whose values are the object's own: not those at the outline, but all of thin parts."""
    inner = binary_erosion(inside)
    return np.asarray(inner | (inside & ~binary_dilation(inner, iterations=2)))
