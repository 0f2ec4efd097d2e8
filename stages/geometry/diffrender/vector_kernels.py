"""Loops behind `vector_pictures`. Imported by it only, because numba is heavy.

What `samples` and `antialias` do with tensors, pixel by pixel: their formulas, in float64. Shared
arguments, of one view:

clip      (V, 3) float32 x, y, w; vectors (V, 3) float32
faces     (F, 3) int64; across (F, 3) int64, see `antialias`
face      (S * S,) int64 and depth (S * S,) float32 of `Visible`
pixels    (B,) int64, those of the view's region
rows      (S * S,) int64: where in `pixels` one of them is, counted from `first`
cuts      (N, 6) int64, pairs of pixels that a silhouette passes between: the row that is mixed, the
          row that it takes from, the silhouette's ends, the pixel of its face, 1 if one pixel lies
          above the other
mixing    (N, 5) float32: share that is taken (negative where the second pixel takes it, as in
          `antialias`), and by how much the second pixel's channels exceed the first's
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stages.geometry.diffrender.antialias import SOFTENED, TOLERANCE
from stages.geometry.diffrender.samples import SLIVER
from stages.geometry.jit import kernel

Array: TypeAlias = np.ndarray
KNOWN = 8
"""Bit of a face's `sides` that says that the other three, its silhouettes, have been found."""


@kernel
def seen_from(clip, corner, x, y):  # type: ignore[no-untyped-def]
    """A corner as seen from the pixel centre (x, y) in NDC."""
    w = np.float64(clip[corner, 2])
    return clip[corner, 0] - x * w, clip[corner, 1] - y * w


@kernel
def center_of(pixel, size):  # type: ignore[no-untyped-def]
    """A pixel's centre in NDC."""
    return (2.0 * (pixel % size) + 1.0) / size - 1.0, 1.0 - (2.0 * (pixel // size) + 1.0) / size


@kernel
def weights_at(clip, a, b, c, x, y):  # type: ignore[no-untyped-def]
    """Perspective-correct weights (3) of a face's corners at the pixel centre (x, y) in NDC; the
    corners as seen from there, x and y of each (6); what the weights were divided by."""
    ax, ay = seen_from(clip, a, x, y)
    bx, by = seen_from(clip, b, x, y)
    cx, cy = seen_from(clip, c, x, y)
    u, v, w = bx * cy - cx * by, cx * ay - ax * cy, ax * by - bx * ay
    total = u + v + w
    total += -SLIVER if total < 0.0 else SLIVER
    return (u / total, v / total, w / total), (ax, ay, bx, by, cx, cy), total


@kernel
def shade(clip, vectors, faces, face, pixels, size, image):  # type: ignore[no-untyped-def]
    """image (B, 4) float32: (q + 1) / 2 of the vectors q, and 1; 0 where there is no face."""
    for row in range(len(pixels)):
        shown = face[pixels[row]]
        if shown < 0:
            for channel in range(4):
                image[row, channel] = 0.0
            continue
        x, y = center_of(pixels[row], size)
        a, b, c = faces[shown, 0], faces[shown, 1], faces[shown, 2]
        (u, v, w), _, _ = weights_at(clip, a, b, c, x, y)
        for channel in range(3):
            mean = u * vectors[a, channel] + v * vectors[b, channel] + w * vectors[c, channel]
            image[row, channel] = (mean + u + v + w) / 2.0
        image[row, 3] = 1.0


@kernel
def shade_back(clip, vectors, faces, face, pixels, size, given, to_clip, to_vectors):  # type: ignore[no-untyped-def]
    """Gradients of `shade`, added up: given (B, 4) float32 of its image; to_clip and to_vectors
    (V, 3) float64."""
    for row in range(len(pixels)):
        shown = face[pixels[row]]
        if shown < 0:
            continue
        x, y = center_of(pixels[row], size)
        a, b, c = faces[shown, 0], faces[shown, 1], faces[shown, 2]
        (u, v, w), (ax, ay, bx, by, cx, cy), total = weights_at(clip, a, b, c, x, y)
        gu = gv = gw = 0.0
        for channel in range(3):
            half = given[row, channel] / 2.0
            to_vectors[a, channel] += u * half
            to_vectors[b, channel] += v * half
            to_vectors[c, channel] += w * half
            gu += half * (vectors[a, channel] + 1.0)
            gv += half * (vectors[b, channel] + 1.0)
            gw += half * (vectors[c, channel] + 1.0)
        mean = gu * u + gv * v + gw * w
        # Of the three cross products that the weights are proportional to.
        gu, gv, gw = (gu - mean) / total, (gv - mean) / total, (gw - mean) / total
        add_corner(to_clip, a, gw * by - gv * cy, gv * cx - gw * bx, x, y)
        add_corner(to_clip, b, gu * cy - gw * ay, gw * ax - gu * cx, x, y)
        add_corner(to_clip, c, gv * ay - gu * by, gu * bx - gv * ax, x, y)


@kernel
def add_corner(to_clip, corner, gx, gy, x, y):  # type: ignore[no-untyped-def]
    """The gradient of `seen_from`."""
    to_clip[corner, 0] += gx
    to_clip[corner, 1] += gy
    to_clip[corner, 2] -= gx * x + gy * y


@kernel
def on_screen(clip, vertex, size):  # type: ignore[no-untyped-def]
    """Column and row in pixels."""
    w = np.float64(clip[vertex, 2])
    return (clip[vertex, 0] / w + 1.0) * size / 2.0, (1.0 - clip[vertex, 1] / w) * size / 2.0


@kernel
def silhouettes_of(clip, faces, across, shown, size):  # type: ignore[no-untyped-def]
    """Which sides of a face are silhouettes, one bit each, and `KNOWN`."""
    ax, ay = on_screen(clip, faces[shown, 0], size)
    bx, by = on_screen(clip, faces[shown, 1], size)
    cx, cy = on_screen(clip, faces[shown, 2], size)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    found = KNOWN
    for k in range(3):
        beyond = across[shown, k]
        alone = beyond == faces[shown, (k + 2) % 3]
        px, py = on_screen(clip, beyond, size)
        if k == 0:
            side = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
        elif k == 1:
            side = (cx - bx) * (py - by) - (cy - by) * (px - bx)
        else:
            side = (ax - cx) * (py - cy) - (ay - cy) * (px - cx)
        if alone or side * area > 0.0:
            found |= 1 << k
    return found


@kernel
def cut_between(clip, faces, shown, sides, own, second_is_nearer, vertical, size):  # type: ignore[no-untyped-def]
    """The side of a face that passes between two pixels, -1 if none, and the share of the second
    pixel's colour that the first one takes; see `antialias`.

    shown, sides: the nearer face and its silhouettes; own: its pixel of the two.
    """
    column, row = own % size + 0.5, own // size + 0.5
    sign = -1.0 if second_is_nearer else 1.0
    farthest, side, steep = -np.inf, -1, False
    x0, y0 = on_screen(clip, faces[shown, 0], size)
    x0, y0 = (y0 - row, x0 - column) if vertical else (x0 - column, y0 - row)
    for k in range(3):
        x1, y1 = on_screen(clip, faces[shown, (k + 1) % 3], size)
        x1, y1 = (y1 - row, x1 - column) if vertical else (x1 - column, y1 - row)
        if (y0 < 0.0) != (y1 < 0.0):
            crossing = sign * (x0 * (y1 - y0) - y0 * (x1 - x0)) / (y1 - y0)
            if crossing > farthest:
                farthest, side, steep = crossing, k, abs(y1 - y0) >= abs(x1 - x0)
        x0, y0 = x1, y1
    if side < 0 or not steep or not sides & (1 << side):
        return -1, 0.0
    if not -TOLERANCE < farthest < 1.0 + TOLERANCE:
        return -1, 0.0
    return side, sign * (0.5 - min(max(farthest, 0.0), 1.0))


@kernel
def find_cuts(clip, faces, across, face, depth, pixels, rows, first, size, image, cuts, mixing):  # type: ignore[no-untyped-def]
    """Fill in `cuts` and `mixing`, as long as there may be pairs; returns how many there are.

    image (B, 4), as `shade` leaves it.
    """
    sides = np.zeros(len(faces), np.uint8)
    count = 0
    for vertical in (False, True):
        step = size if vertical else 1
        for one in range(len(pixels)):
            pixel = pixels[one]
            if (pixel // size if vertical else pixel % size) == size - 1:
                continue
            other = pixel + step
            if face[pixel] == face[other]:
                continue
            second_is_nearer = depth[other] <= depth[pixel]
            own = other if second_is_nearer else pixel
            shown = face[own]
            if not sides[shown]:
                sides[shown] = silhouettes_of(clip, faces, across, shown, size)
            if sides[shown] == KNOWN:
                continue
            side, share = cut_between(
                clip, faces, shown, sides[shown], own, second_is_nearer, vertical, size
            )
            if side < 0:
                continue
            # Of two different faces one is there, so both pixels lie in the region.
            two = rows[other] - first
            cuts[count, 0] = one if share > 0.0 else two
            cuts[count, 1] = two if share > 0.0 else one
            cuts[count, 2], cuts[count, 3] = faces[shown, side], faces[shown, (side + 1) % 3]
            cuts[count, 4], cuts[count, 5] = own, vertical
            mixing[count, 0] = share
            for channel in range(4):
                mixing[count, 1 + channel] = image[two, channel] - image[one, channel]
            count += 1
    return count


@kernel
def mix(cuts, mixing, image):  # type: ignore[no-untyped-def]
    """Antialias image (B, 4), as `shade` leaves it."""
    for n in range(len(cuts)):
        for channel in range(4):
            image[cuts[n, 0], channel] += mixing[n, 0] * mixing[n, 1 + channel]


@kernel
def mix_back(clip, cuts, mixing, size, given, to_image, to_clip):  # type: ignore[no-untyped-def]
    """Gradients of `mix`, added up: given (B, 4) float32 of its result; to_image (B, 4) float32,
    which starts as a copy of it; to_clip (V, 3) float64."""
    half = size / 2.0
    for n in range(len(cuts)):
        share, slope = mixing[n, 0], 0.0
        taker, source = cuts[n, 0], cuts[n, 1]
        for channel in range(4):
            part = given[taker, channel]
            slope += part * mixing[n, 1 + channel]
            to_image[source, channel] += abs(share) * part
            to_image[taker, channel] -= abs(share) * part
        a, b, own, vertical = cuts[n, 2], cuts[n, 3], cuts[n, 4], cuts[n, 5]
        column, row = own % size + 0.5, own // size + 0.5
        x0, y0 = on_screen(clip, a, size)
        x1, y1 = on_screen(clip, b, size)
        x0, y0, x1, y1 = x0 - column, y0 - row, x1 - column, y1 - row
        if vertical:
            x0, y0, x1, y1 = y0, x0, y1, x1
        # share = -(x0 y1 - y0 x1) / (y1 - y0), but for a constant and for what softens it.
        rise = y1 - y0
        rise += SOFTENED if rise > 0.0 else -SOFTENED
        turn = (x0 * y1 - y0 * x1) / (rise * rise)
        gx0, gy0 = -slope * y1 / rise, slope * (x1 / rise - turn)
        gx1, gy1 = slope * y0 / rise, slope * (turn - x0 / rise)
        if vertical:
            gx0, gy0, gx1, gy1 = gy0, gx0, gy1, gx1
        add_screen(to_clip, clip, a, gx0, gy0, half)
        add_screen(to_clip, clip, b, gx1, gy1, half)


@kernel
def add_screen(to_clip, clip, vertex, gx, gy, half):  # type: ignore[no-untyped-def]
    """The gradient of `on_screen`."""
    x, y, w = clip[vertex, 0], clip[vertex, 1], np.float64(clip[vertex, 2])
    to_clip[vertex, 0] += half * gx / w
    to_clip[vertex, 1] -= half * gy / w
    to_clip[vertex, 2] -= half * (gx * x - gy * y) / (w * w)
