"""Segmentation on a plain backdrop: studio white, a vignetted wall, a soft gradient.

The backdrop is a quadratic surface in CIELAB, fitted robustly to the picture's border. Background
is what can be reached without crossing an edge: pixels on the surface, and pixels that are darker
at the same hue, which is how a soft shadow on the ground looks. Islands that lie on the surface
themselves (under a chair, inside a handle) are background too.

Unlike a graph cut it has no smoothness term, so thin parts survive.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

RING = 0.02
"""Width of the border ring that the surface is fitted to, of the longest side."""

MIN_NOISE, MAX_NOISE = 0.4, 3.5
"""Border residual in Delta E (CIE76); above the maximum the border is textured, not plain."""

MIN_INLIERS = 0.6
"""Share of the border that must lie on the surface; the object may cover the rest."""

DARKEST_SHADOW = 50.0
"""How much darker (L*) than the backdrop a soft shadow gets before it counts as object."""

MAX_INTERRUPTIONS = 8
"""How often, going round the picture's edge, something else may interrupt the backdrop: objects
that reach over the edge do it a few times, the joints of a brick wall all the time."""

MIN_FLAT_SHARE = 0.3
"""Share of the edge that a flat colour must have to be the backdrop of a cut off object."""

MAX_FLAT_NOISE = 1.0
"""Delta E along the side that has it; a sky or a wall has more."""

MAX_FLAT_OBJECTS = 4
"""How often such an object may reach over the edge."""

MIN_HOLE = 0.0003
"""Smallest enclosed piece of background, of the picture's area."""

STATED_RANGE = 10.0
"""Delta E up to which a pixel of the border counts as the colour that the user has said."""

GROWTH_STEPS = 8
"""Pixels by which background grows into the blur of edges that the flood stops at."""

_SMALL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Backdrop:
    """A fitted backdrop.

    surface  (h, w, 3) float32, CIELAB (L* 0..100)
    noise    robust standard deviation of the fitted pixels around it, Delta E
    stated   whether the user has said its colour: then it is not fitted any further
    """

    surface: np.ndarray
    noise: float
    stated: bool = False

    def off_edge(self, lab: np.ndarray) -> np.ndarray:
        """Pixels of the edge of `lab`, going round, that are not this backdrop, (n,) bool."""
        smooth = cv2.GaussianBlur(lab, (0, 0), 1.5)
        off = np.linalg.norm(smooth - self.surface, axis=2) > max(4.0, 3.0 * self.noise)
        return np.concatenate([off[0], off[:, -1], off[-1, ::-1], off[::-1, 0]])

    def is_plain(self, lab: np.ndarray) -> bool:
        """Whether the border of `lab` is this backdrop, apart from where the object reaches it."""
        edge = self.off_edge(lab)
        return (
            self.noise <= MAX_NOISE
            and float(edge.mean()) <= 1.0 - MIN_INLIERS
            and _interruptions(edge) <= MAX_INTERRUPTIONS
        )


def _interruptions(edge: np.ndarray) -> int:
    return int(np.count_nonzero(edge & ~np.roll(edge, 1)))


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 sRGB -> float32 CIELAB."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)


def fit_backdrop(lab: np.ndarray) -> Backdrop:
    """Fit the surface to the border of `lab` (h, w, 3)."""
    height, width = lab.shape[:2]
    thickness = max(2, round(RING * max(height, width)))
    ring = np.ones((height, width), bool)
    ring[thickness:-thickness, thickness:-thickness] = False
    return _fit(lab, ring)


def find_plain_backdrop(lab: np.ndarray) -> Backdrop | None:
    """The plain backdrop of `lab` (h, w, 3), or None where there is none.

    Where an object reaches over much of the edge, a flat colour along one whole side may still be
    the backdrop.
    """
    fitted = fit_backdrop(lab)
    if fitted.is_plain(lab):
        return fitted
    thickness = max(2, round(RING * max(lab.shape[:2])))
    sides = (lab[:thickness], lab[-thickness:], lab[:, :thickness], lab[:, -thickness:])
    best, most = None, MIN_FLAT_SHARE
    for side in sides:
        colour = np.median(side.reshape(-1, 3), axis=0)
        spread = 1.4826 * float(np.median(np.linalg.norm(side - colour, axis=2)))
        flat = Backdrop(np.broadcast_to(colour, lab.shape).astype(np.float32), spread)
        off = flat.off_edge(lab)
        share = 1.0 - float(off.mean())
        if spread <= MAX_FLAT_NOISE and share > most and _interruptions(off) <= MAX_FLAT_OBJECTS:
            best, most = flat, share
    return best


def stated_backdrop(lab: np.ndarray, colour: tuple[int, int, int]) -> Backdrop:
    """A backdrop of one sRGB colour; its noise is that of the border's pixels near it."""
    one = to_lab(np.array([[colour]], np.uint8))[0, 0]
    surface = np.broadcast_to(one, lab.shape).astype(np.float32)
    edge = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    off = np.linalg.norm(edge - one, axis=1)
    near = off[off < STATED_RANGE]
    noise = 1.4826 * float(np.median(near)) if near.size else MIN_NOISE
    return Backdrop(surface, noise, stated=True)


def segment_on_backdrop(lab: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    """Object mask (h, w) bool of a picture in front of a plain backdrop."""
    background = _flood(lab, backdrop)
    on_surface = background & (_distance(lab, backdrop) < 2.5 * _noise(backdrop))
    if on_surface.mean() > 0.05 and not backdrop.stated:
        # Once much of the backdrop is known, the middle need not be extrapolated from the border.
        background = _flood(lab, _fit(lab, on_surface))
    return ~_grow(lab, background, _noise(backdrop))


def _fit(lab: np.ndarray, where: np.ndarray) -> Backdrop:
    height, width = lab.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    rows, values = basis[where], lab[where]
    step = max(1, len(rows) // 20_000)
    rows, values = rows[::step], values[::step]
    kept = np.ones(len(rows), bool)
    for _ in range(8):
        coefficients = np.linalg.lstsq(rows[kept], values[kept], rcond=None)[0]
        residual = np.linalg.norm(values - rows @ coefficients, axis=1)
        # Median of the residual's norm -> standard deviation (MAD of a normal distribution).
        spread = 1.4826 * float(np.median(residual))
        kept = residual < max(2.5 * spread, 1.5)
    return Backdrop((basis @ coefficients).astype(np.float32), spread)


def _noise(backdrop: Backdrop) -> float:
    return float(np.clip(backdrop.noise, MIN_NOISE, MAX_NOISE))


def _distance(lab: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    distance: np.ndarray = np.linalg.norm(lab - backdrop.surface, axis=2)
    return distance


def _edges(lab: np.ndarray) -> np.ndarray:
    """Gradient, Delta E a pixel; chroma counts a quarter because JPEG keeps it in coarse blocks."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.8)
    dx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) / 32.0
    dy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) / 32.0
    strength: np.ndarray = np.sqrt((dx * dx + dy * dy) @ np.array([1, 0.25, 0.25], np.float32))
    return strength


def _flood(lab: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    noise = _noise(backdrop)
    offset = lab - backdrop.surface
    smooth = cv2.GaussianBlur(offset, (0, 0), 1.0)
    smooth_distance = np.linalg.norm(smooth, axis=2)
    on_surface = np.minimum(np.linalg.norm(offset, axis=2), smooth_distance) < max(2.0, 2.5 * noise)
    flat = _edges(lab) < max(1.2, 0.9 * noise)
    same_hue = np.hypot(smooth[..., 1], smooth[..., 2]) < max(4.5, 3.0 * noise)
    darker = (offset[..., 0] > -DARKEST_SHADOW) & (offset[..., 0] < max(4.0, 4.0 * noise))
    shadow = (flat & same_hue & darker).astype(np.uint8)
    # Opened, so that a shadow does not leak into the object through a gap in its outline.
    open_to = on_surface | (cv2.morphologyEx(shadow, cv2.MORPH_OPEN, _SMALL) > 0)

    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        open_to.astype(np.uint8), connectivity=4
    )
    area = stats[:, cv2.CC_STAT_AREA]
    surface_area = np.bincount(labels[on_surface], minlength=count)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    at_border = np.zeros(count, bool)
    at_border[rim] = True
    # What touches the border or is large enough, and is mostly backdrop rather than "shadow".
    wanted = (at_border | (surface_area > MIN_HOLE * labels.size)) & (surface_area > 0.2 * area)
    wanted[0] = False
    reached: np.ndarray = wanted[labels]
    return reached


def _grow(lab: np.ndarray, background: np.ndarray, noise: float) -> np.ndarray:
    """Take in rim pixels that look like the background right beside them."""
    darker, lighter, other = max(9.0, 4.0 * noise), max(4.0, 2.0 * noise), max(5.0, 3.0 * noise)
    for _ in range(GROWTH_STEPS):
        weight = cv2.blur(background.astype(np.float32), (7, 7))
        local = cv2.blur(lab * background[..., None], (7, 7)) / np.maximum(weight, 1e-6)[..., None]
        offset = lab - local
        alike = (offset[..., 0] > -darker) & (offset[..., 0] < lighter)
        alike &= np.hypot(offset[..., 1], offset[..., 2]) < other
        beside = cv2.dilate(background.astype(np.uint8), _SMALL) > 0
        grown = background | (beside & alike)
        if np.array_equal(grown, background):
            break
        background = grown
    return background
