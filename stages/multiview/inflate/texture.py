"""Colours for what one picture does not show: the rim seen from the side, and the back.

The front sheet takes the picture, more and more blurred where the surface turns away from the
camera: a few pixels at the rim stretch over a wide band of a side view, and would streak. It goes
over into the object's own colours there, if they are known apart from its lights. The back has the
colours of those regions of the front that go on behind the outline, so faces and lettering do not
appear on it, or those that the far side is known to have; both sheets agree where they meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.geometry.silhouette_membrane import Membrane
from stages.multiview.inflate.around import DARK, look_around
from stages.multiview.inflate.spread import spread

BLURS = (0.0, 1.5, 3.0, 6.0)
"""Standard deviations of the picture's blurred versions, in pixels of a 512 tile."""
SHARP = 1.0
"""Standard deviation likewise, where regions' borders are looked for."""
RIM_INSET = 2
"""Outermost pixels that are not trusted: there the object is mixed with its old background."""
OPAQUE = 0.95
"""Alpha above which a pixel shows nothing of its old background."""
WIDEST_LINE = 16
"""Pixels of a 512 tile: what is dark further in is dark itself."""
TILE = 512


@dataclass(frozen=True)
class Textures:
    """Colours by position in the front camera's image.

    front  one (S, S, 3) float32 array for each of `BLURS`, defined everywhere
    back   (S, S, 3) float32
    """

    front: tuple[np.ndarray, ...]
    back: np.ndarray

    def sample(self, at: np.ndarray, facing: np.ndarray, on_front: np.ndarray) -> np.ndarray:
        """Colours of surface points, (P, 3) float32 in [0, 1].

        at        (P, 2) (column, row) in a tile of the textures' size, pixel centres at half
                  integers
        facing    (P,) cosine between the normal and the direction to the front camera
        on_front  (P,) bool
        """
        front = by_stretch(self.front, at, facing, on_front)
        return np.clip(front + (~on_front)[:, None] * bilinear(self.back, at), 0.0, 1.0)


def by_stretch(
    versions: tuple[np.ndarray, ...],
    at: np.ndarray,
    facing: np.ndarray,
    where: np.ndarray | bool = True,
) -> np.ndarray:
    """(P, 3) float32 colours of a picture's blurred versions: see `Textures.sample`; 0 elsewhere
    than `where` (P,)."""
    # A surface at cosine c is stretched by 1 / c in a view from the side.
    stretch = 1.0 / np.clip(facing, 0.05, 1.0) - 1.0
    level = np.clip(stretch, 0.0, len(versions) - 1.0)
    result = np.zeros((len(at), 3), np.float32)
    for k, texture in enumerate(versions):
        weight = np.where(where, np.clip(1.0 - np.abs(level - k), 0.0, 1.0), 0.0)
        result += weight[:, None].astype(np.float32) * bilinear(texture, at)
    return result


def blurred_versions(picture: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, ...]:
    """A picture (S, S, 3) in [0, 1] without its rim, spread beyond the outline of alpha (S, S) over
    the whole square: one (S, S, 3) float32 for each of `BLURS`."""
    trusted = _trusted(alpha, _inset(picture, alpha))
    scale = len(picture) / TILE
    return tuple(spread(picture, trusted, sigma * scale) for sigma in BLURS)


def without_line_round(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(S, S, 3) float32: a drawing without the dark line round it, the colours within going on to
    the outline; `picture` itself where there is no such line. Lines within stay.

    picture  (S, S, 3) float32 in [0, 1], on white
    alpha    (S, S) float32 in [0, 1]
    """
    inset = _inset(picture, alpha)
    if inset == RIM_INSET:
        return picture
    trusted = _trusted(alpha, inset)
    inner, cover = spread(picture, trusted), alpha[..., None]
    return np.where(trusted[..., None] > 0.0, picture, inner * cover + (1.0 - cover))


def make_known_textures(
    picture: np.ndarray,
    own: np.ndarray,
    behind: np.ndarray,
    alpha: np.ndarray,
    sheet: Membrane,
    detail: np.ndarray,
) -> Textures:
    """Build the colours of an object whose back's are known, more or less.

    picture  (S, S, 3) float32 in [0, 1]
    own      the same without its lights and shades: the back has others
    behind   the back's
    alpha    (S, S) float32 in [0, 1]
    sheet    the silhouette's membrane (its grid may be coarser than S)
    detail   (S, S) share of `behind` in the back's colours, 0 to 1; the rest is the front, without
             what ends there
    """
    # Where the front turns away it becomes the sides, and has to go over into the back.
    trusted, scale = _trusted(alpha, _inset(picture, alpha)), len(picture) / TILE
    shares = np.linspace(0.0, 1.0, len(BLURS), dtype=np.float32)
    front = tuple(
        spread((1.0 - share) * picture + share * own, trusted, sigma * scale)
        for share, sigma in zip(shares, BLURS, strict=True)
    )
    last = _behind(picture, spread(own, trusted, SHARP * scale), sheet)
    last = last + detail[..., None] * (spread(behind, trusted) - last)
    return Textures(front, _meeting(front[-1], last, sheet))


def make_textures(picture: np.ndarray, alpha: np.ndarray, sheet: Membrane) -> Textures:
    """Build the colours of an object of which nothing but the picture is known.

    picture, alpha, sheet  see `make_known_textures`
    """
    front = blurred_versions(picture, alpha)
    return Textures(front, _meeting(front[-1], _behind(picture, front[1], sheet), sheet))


def _behind(picture: np.ndarray, colours: np.ndarray, sheet: Membrane) -> np.ndarray:
    """(S, S, 3) float32: `colours` (S, S, 3) of a front, defined everywhere, without what ends
    there."""
    around = look_around(_small(colours, sheet), _small(picture, sheet), sheet.inside)
    return _large(around.behind(), picture)


def _meeting(front: np.ndarray, back: np.ndarray, sheet: Membrane) -> np.ndarray:
    """(S, S, 3) float32 in [0, 1]: `back` with the colours of `front` at the outline; what it lacks
    of them there is spanned over the inside."""
    missing = _small(front - back, sheet)
    missing = sheet.solve(np.zeros_like(missing), missing)
    correction = spread(missing.astype(np.float32), sheet.inside.astype(np.float32), 1.0)
    return np.clip(back + _large(correction, back), 0.0, 1.0)


def _small(image: np.ndarray, sheet: Membrane) -> np.ndarray:
    size = len(sheet.inside)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _large(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (len(like), len(like)), interpolation=cv2.INTER_LINEAR)


def _trusted(alpha: np.ndarray, inset: float) -> np.ndarray:
    """(S, S) float32: 1 where a picture's colour is the object's own, `inset` pixels of a 512 tile
    within the outline."""
    opaque = (alpha > OPAQUE).astype(np.uint8)
    inset = max(1, round(inset * len(alpha) / TILE))
    inner = cv2.erode(opaque, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * inset + 1,) * 2))
    # Parts that are too thin to have an inside keep the pixels they have.
    near_inner = cv2.dilate(inner, np.ones((4 * inset + 1,) * 2, np.uint8))
    kept = (inner > 0) | ((opaque > 0) & (near_inner == 0))
    return np.asarray(kept if kept.any() else alpha > 0.5, np.float32)


def _inset(picture: np.ndarray, alpha: np.ndarray) -> float:
    """Outermost pixels, of a 512 tile, that do not show the object's colours: `RIM_INSET`, or as
    many as the dark line takes that a drawing has round it."""
    opaque = (alpha > OPAQUE).astype(np.uint8)
    depth = cv2.distanceTransform(opaque, cv2.DIST_L2, 5) * (TILE / len(alpha))
    dark = picture.mean(axis=2) < DARK

    def share(near: float) -> float:
        ring = (depth > near) & (depth <= near + 1.5)
        return float(dark[ring].mean()) if ring.any() else 1.0

    if share(RIM_INSET) < 0.8:
        return RIM_INSET
    ends = (width for width in range(RIM_INSET + 1, WIDEST_LINE) if share(width) < 0.5)
    return next((width + 1.5 for width in ends), RIM_INSET)


def bilinear(texture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(P, 3) float32 values of `texture` at (column, row) positions."""
    # cv2.remap takes at most 32767 rows: points go in as a wide, nearly square map.
    width = 4096
    rows = -(-len(at) // width)
    maps = np.zeros((rows * width, 2), np.float32)
    maps[: len(at)] = at - 0.5
    grid = maps.reshape(rows, width, 2)
    columns, lines = np.ascontiguousarray(grid[..., 0]), np.ascontiguousarray(grid[..., 1])
    values = cv2.remap(
        texture, columns, lines, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(values.reshape(-1, 3)[: len(at)])
