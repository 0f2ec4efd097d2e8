"""Colours for what one picture does not show: the rim seen from the side, and the back.

The front sheet takes the picture, more and more blurred where the surface turns away from the
camera: a few pixels at the rim stretch over a wide band of a side view, and would streak. It goes
over into the object's own colours there, if they are known apart from its lights. The back has the
colours that the network tells, or else those of a membrane spanned over the outline's, so faces
and lettering do not appear on it; both sheets agree where they meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.geometry.silhouette_membrane import Membrane

BLURS = (0.0, 1.5, 3.0, 6.0)
"""Standard deviations of the picture's blurred versions, in pixels of a 512 tile."""
RIM_INSET = 2
"""Outermost pixels that are not trusted: there the object is mixed with its old background."""
DARK = 0.35
"""Mean of the channels of a dark line round a drawing, at most."""
WIDEST_LINE = 16
"""Pixels of a 512 tile: what is dark further in is dark itself."""
TENTH, QUARTER = 0.1, 0.25
"""Of the picture's side: regions of the front that may be the back's, and of what is told of the
back itself, which is seen from its front, where eyes and lenses are larger than a tenth."""
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
    trusted = _trusted(picture, alpha)
    scale = len(picture) / TILE
    return tuple(_fill(picture, trusted, sigma * scale) for sigma in BLURS)


def make_known_textures(
    picture: np.ndarray,
    own: np.ndarray,
    behind: np.ndarray,
    alpha: np.ndarray,
    sheet: Membrane,
    detail: np.ndarray,
    regions: float,
) -> Textures:
    """Build the colours of an object whose back's are known, more or less.

    picture  (S, S, 3) float32 in [0, 1]
    own      the same without its lights and shades: the back has others
    behind   the back's
    alpha    (S, S) float32 in [0, 1]
    sheet    the silhouette's membrane (its grid may be coarser than S)
    detail   (S, S) share of `behind` as it is in the back's colours, 0 to 1; the rest is spanned
             over the outline's colours
    regions  share of the large regions of `behind` in that
    """
    # Where the front turns away it becomes the sides, and has to go over into the back.
    trusted, scale = _trusted(picture, alpha), len(picture) / TILE
    shares = np.linspace(0.0, 1.0, len(BLURS), dtype=np.float32)
    front = tuple(
        _fill((1.0 - share) * picture + share * own, trusted, sigma * scale)
        for share, sigma in zip(shares, BLURS, strict=True)
    )
    last = _fill(behind, trusted, 0.0)
    guess = _spanned(_small(front[-1], sheet), _small(last, sheet), sheet, regions, QUARTER)
    guess = _large(guess, picture)
    last = guess + detail[..., None] * (last - guess)
    missing = _small(front[-1] - last, sheet)
    missing = sheet.solve(np.zeros_like(missing), missing)
    correction = _fill(missing.astype(np.float32), sheet.inside.astype(np.float32), 1.0)
    return Textures(front, np.clip(last + _large(correction, picture), 0.0, 1.0))


def make_textures(
    picture: np.ndarray, alpha: np.ndarray, sheet: Membrane, detail: float
) -> Textures:
    """Build the colours of an object of which nothing but the picture is known.

    picture, alpha, sheet  see `make_known_textures`
    detail                 share of the front's large regions in the back's colours, 0 to 1
    """
    front = blurred_versions(picture, alpha)
    rim = _small(front[-1], sheet)
    return Textures(front, _large(_spanned(rim, rim, sheet, detail, TENTH), picture))


def _spanned(
    rim: np.ndarray, image: np.ndarray, sheet: Membrane, share: float, large: float
) -> np.ndarray:
    """(N, N, 3) float32: the outline's colours in `rim` spanned over the inside, with a share of
    those regions of `image` that are larger than `large`, a share of the picture's side."""
    plain = _without_detail(image, large)
    span = sheet.solve(sheet.screen * plain, rim)
    # The large regions fade in with the distance from the rim, where both sheets must agree.
    inside = sheet.inside.astype(np.float32)
    away = cv2.GaussianBlur(inside, (0, 0), len(inside) / 40.0)
    part = share * np.clip(2.0 * away - 1.0, 0.0, 1.0)[..., None]
    return _fill((span * (1.0 - part) + plain * part).astype(np.float32), inside, 1.0)


def _small(image: np.ndarray, sheet: Membrane) -> np.ndarray:
    size = len(sheet.inside)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _large(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (len(like), len(like)), interpolation=cv2.INTER_LINEAR)


def _without_detail(image: np.ndarray, large: float) -> np.ndarray:
    """(N, N, 3) float32 without what is smaller than `large`, a share of the picture's side.

    A median keeps the borders between large regions, where a blur would mix their colours.
    """
    bytes_ = np.rint(image * 255.0).astype(np.uint8)
    median = cv2.medianBlur(bytes_, 2 * round(len(image) * large / 2.0) + 1)
    return cv2.GaussianBlur(median.astype(np.float32) / 255.0, (0, 0), len(image) / 60.0)


def _trusted(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(S, S) float32: 1 where the picture's colour is the object's own."""
    opaque = (alpha > 0.95).astype(np.uint8)
    inset = max(1, round(_inset(picture, opaque) * len(alpha) / TILE))
    inner = cv2.erode(opaque, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * inset + 1,) * 2))
    # Parts that are too thin to have an inside keep the pixels they have.
    near_inner = cv2.dilate(inner, np.ones((4 * inset + 1,) * 2, np.uint8))
    kept = (inner > 0) | ((opaque > 0) & (near_inner == 0))
    return np.asarray(kept if kept.any() else alpha > 0.5, np.float32)


def _inset(picture: np.ndarray, opaque: np.ndarray) -> float:
    """Outermost pixels, of a 512 tile, that do not show the object's colours: `RIM_INSET`, or as
    many as the dark line takes that a drawing has round it."""
    depth = cv2.distanceTransform(opaque, cv2.DIST_L2, 5) * (TILE / len(opaque))
    dark = picture.mean(axis=2) < DARK

    def share(near: float) -> float:
        ring = (depth > near) & (depth <= near + 1.5)
        return float(dark[ring].mean()) if ring.any() else 1.0

    if share(RIM_INSET) < 0.8:
        return RIM_INSET
    ends = (width for width in range(RIM_INSET + 1, WIDEST_LINE) if share(width) < 0.5)
    return next((width + 1.5 for width in ends), RIM_INSET)


def _fill(image: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Blur `image` over the pixels of `weight` only, and spread it over the whole square.

    Normalised convolution over a pyramid: each pixel takes the finest level that sees weight.
    """
    weighted, share = image * weight[..., None], weight
    if sigma > 0:
        weighted = cv2.GaussianBlur(weighted, (0, 0), sigma)
        share = cv2.GaussianBlur(share, (0, 0), sigma)
    size = (image.shape[1], image.shape[0])
    result = np.zeros_like(image)
    left = np.ones(image.shape[:2], np.float32)
    while True:
        big_share = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)
        big = cv2.resize(weighted, size, interpolation=cv2.INTER_LINEAR)
        here = left * np.clip(big_share * 4.0, 0.0, 1.0)
        result += here[..., None] * big / np.maximum(big_share, 1e-6)[..., None]
        left = left - here
        if min(share.shape) <= 2:
            break
        weighted, share = cv2.pyrDown(weighted), cv2.pyrDown(share)
    covered = (1.0 - left)[..., None]
    mean = np.average(image.reshape(-1, 3), axis=0, weights=weight.ravel())
    return np.asarray(result + (1.0 - covered) * mean, np.float32)


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
