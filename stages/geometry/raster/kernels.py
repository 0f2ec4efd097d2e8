"""Kernels of the CPU rasteriser. Imported by the backend only, because numba is heavy.

Coverage is decided in integers: vertices are snapped to 1/65536 pixel and edge functions are
evaluated exactly, with the top-left rule for centres that lie on an edge (Pineda, "A Parallel
Algorithm for Polygon Rasterization", 1988). So neighbouring faces neither overlap nor leave gaps.
Depth and barycentrics come from the unsnapped face by the homogeneous form of Olano and Greer,
"Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997: with p_i = (x_i, y_i, w_i) and
q = (X, Y, 1) a pixel centre in NDC, the l_i of sum l_i p_i = q are the weights divided by depth.
That holds for faces that were cut at the near plane as well.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stages.geometry.jit import kernel

Array: TypeAlias = np.ndarray

SUBPIXELS = 65536
GUARD = 4096.0
"""Pixels outside [-GUARD, size + GUARD] are cut off before snapping, so that edge functions of
images up to 4096 pixels stay below 2**61."""


@kernel
def snap_vertices(
    clip: Array, height: int, width: int, near: float, screen: Array, inside: Array
) -> None:
    """(V, 4) float64 -> screen (V, 2) int64 in subpixels, inside (V,) uint8.

    inside: 1 in front of the near plane and within the guard band, 0 to be cut, 2 not finite.
    """
    for v in range(clip.shape[0]):
        x, y, w = clip[v, 0], clip[v, 1], clip[v, 3]
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(w)):
            inside[v] = 2
            continue
        inside[v] = 0
        if w < near:
            continue
        column = (x / w + 1.0) * 0.5 * width
        row = (1.0 - y / w) * 0.5 * height
        if -GUARD <= column <= width + GUARD and -GUARD <= row <= height + GUARD:
            inside[v] = 1
            screen[v, 0] = np.int64(np.rint(column * SUBPIXELS))
            screen[v, 1] = np.int64(np.rint(row * SUBPIXELS))


@kernel
def row_ranges(
    screen: Array, faces: Array, inside: Array, height: int, width: int, ranges: Array
) -> int:
    """(F, 2) int32 first and last row whose pixel centres a face may cover (first > last: none).

    Returns the number of faces that have to be cut; their range stays empty.
    """
    half = SUBPIXELS // 2
    to_cut = 0
    for f in range(faces.shape[0]):
        ranges[f, 0], ranges[f, 1] = 1, 0
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if inside[a] == 2 or inside[b] == 2 or inside[c] == 2:
            continue
        if inside[a] + inside[b] + inside[c] < 3:
            to_cut += 1
            continue
        x_low = min(screen[a, 0], screen[b, 0], screen[c, 0])
        x_high = max(screen[a, 0], screen[b, 0], screen[c, 0])
        # First centre >= low and last centre <= high, as column numbers.
        if max((x_low + half - 1) // SUBPIXELS, 0) > min((x_high - half) // SUBPIXELS, width - 1):
            continue
        y_low = min(screen[a, 1], screen[b, 1], screen[c, 1])
        y_high = max(screen[a, 1], screen[b, 1], screen[c, 1])
        ranges[f, 0] = max((y_low + half - 1) // SUBPIXELS, 0)
        ranges[f, 1] = min((y_high - half) // SUBPIXELS, height - 1)
    return to_cut


@kernel
def cut_face(corners: Array, near: float, x_guard: float, y_guard: float, polygon: Array) -> int:
    """Cut one face at the near plane and the guard band (Sutherland and Hodgman, 1974).

    corners (3, 4) clip coordinates; polygon (9, 4) receives the convex remainder. Guards are in
    NDC units. Returns the number of its corners, 0 if nothing is left.
    """
    work = np.empty((9, 4))
    count = 3
    polygon[:3] = corners
    for plane in range(5):
        kept = 0
        for i in range(count):
            p, q = polygon[i], polygon[(i + 1) % count]
            if plane == 0:
                dp, dq = p[3] - near, q[3] - near
            elif plane < 3:
                side = 1.0 if plane == 1 else -1.0
                dp, dq = x_guard * p[3] - side * p[0], x_guard * q[3] - side * q[0]
            else:
                side = 1.0 if plane == 3 else -1.0
                dp, dq = y_guard * p[3] - side * p[1], y_guard * q[3] - side * q[1]
            if dp >= 0.0:
                work[kept] = p
                kept += 1
            if (dp >= 0.0) != (dq >= 0.0):
                work[kept] = p + (q - p) * (dp / (dp - dq))
                kept += 1
        count = kept
        polygon[:count] = work[:count]
    return count if count >= 3 else 0


@kernel
def draw(
    clip: Array,
    faces: Array,
    screen: Array,
    triangles: Array,
    owners: Array,
    ranges: Array,
    top: int,
    bottom: int,
    inverse_depth: Array,
    pix_to_face: Array,
) -> None:
    """Z-buffer all triangles into rows [top, bottom).

    triangles (T, 3) index `screen`, owners (T,) are their faces. inverse_depth (H, W) float64
    starts at 0, pix_to_face at -1. At equal depth the lower face id wins, whatever the order.
    """
    height, width = pix_to_face.shape
    half = SUBPIXELS // 2
    for t in range(triangles.shape[0]):
        first, last = max(ranges[t, 0], top), min(ranges[t, 1], bottom - 1)
        if first > last:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        if area < 0:
            bx, by, cx, cy = cx, cy, bx, by
        left = max((min(ax, bx, cx) + half - 1) // SUBPIXELS, 0)
        right = min((max(ax, bx, cx) - half) // SUBPIXELS, width - 1)

        # 1 / depth = (N . q) / (N . p_0) with N the face's normal in (x, y, w) space.
        f = owners[t]
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uw = clip[j, 0] - clip[i, 0], clip[j, 1] - clip[i, 1], clip[j, 3] - clip[i, 3]
        vx, vy, vw = clip[k, 0] - clip[i, 0], clip[k, 1] - clip[i, 1], clip[k, 3] - clip[i, 3]
        nx, ny, nw = uy * vw - uw * vy, uw * vx - ux * vw, ux * vy - uy * vx
        scale = nx * clip[i, 0] + ny * clip[i, 1] + nw * clip[i, 3]
        if scale == 0.0:
            continue
        nx, ny, nw = nx / scale, ny / scale, nw / scale
        # A sliver's plane is ill-conditioned: its depth never leaves that of its corners.
        w_near = max(min(clip[i, 3], clip[j, 3], clip[k, 3]), 1e-9)
        w_far = max(clip[i, 3], clip[j, 3], clip[k, 3])
        low, high = 1.0 / w_far, 1.0 / w_near

        # Edge functions at the first centre; centres on an edge belong to top and left edges.
        px, py = left * SUBPIXELS + half, first * SUBPIXELS + half
        e0 = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
        e1 = (cx - bx) * (py - by) - (cy - by) * (px - bx)
        e2 = (ax - cx) * (py - cy) - (ay - cy) * (px - cx)
        if not (by < ay or (by == ay and bx > ax)):
            e0 -= 1
        if not (cy < by or (cy == by and cx > bx)):
            e1 -= 1
        if not (ay < cy or (ay == cy and ax > cx)):
            e2 -= 1
        x0, x1, x2 = (by - ay) * SUBPIXELS, (cy - by) * SUBPIXELS, (ay - cy) * SUBPIXELS
        y0, y1, y2 = (bx - ax) * SUBPIXELS, (cx - bx) * SUBPIXELS, (ax - cx) * SUBPIXELS

        for row in range(first, last + 1):
            base = ny * (1.0 - (2 * row + 1) / height) + nw
            d0, d1, d2 = e0, e1, e2
            for column in range(left, right + 1):
                if (d0 | d1 | d2) >= 0:
                    value = base + nx * ((2 * column + 1) / width - 1.0)
                    value = min(max(value, low), high)
                    best = inverse_depth[row, column]
                    if value > best or (value == best and f < pix_to_face[row, column]):
                        inverse_depth[row, column] = value
                        pix_to_face[row, column] = f
                d0 -= x0
                d1 -= x1
                d2 -= x2
            e0 += y0
            e1 += y1
            e2 += y2


@kernel
def resolve(
    clip: Array,
    faces: Array,
    pix_to_face: Array,
    top: int,
    bottom: int,
    barycentrics: Array,
    depth: Array,
) -> None:
    """Barycentrics and depth of the faces that won, rows [top, bottom)."""
    height, width = pix_to_face.shape
    for row in range(top, bottom):
        y = 1.0 - (2 * row + 1) / height
        for column in range(width):
            f = pix_to_face[row, column]
            if f < 0:
                barycentrics[row, column, 0] = 0.0
                barycentrics[row, column, 1] = 0.0
                barycentrics[row, column, 2] = 0.0
                depth[row, column] = np.inf
                continue
            x = (2 * column + 1) / width - 1.0
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            # Seen from the pixel (x - X w, y - Y w) each l_i is a 2D cross product.
            iw, jw, kw = clip[i, 3], clip[j, 3], clip[k, 3]
            ix, iy = clip[i, 0] - x * iw, clip[i, 1] - y * iw
            jx, jy = clip[j, 0] - x * jw, clip[j, 1] - y * jw
            kx, ky = clip[k, 0] - x * kw, clip[k, 1] - y * kw
            l0 = jx * ky - jy * kx
            l1 = kx * iy - ky * ix
            l2 = ix * jy - iy * jx
            if l0 + l1 + l2 < 0.0:
                l0, l1, l2 = -l0, -l1, -l2
            # Snapping may put a centre just outside the exact face.
            l0, l1, l2 = max(l0, 0.0), max(l1, 0.0), max(l2, 0.0)
            total = l0 + l1 + l2
            if total > 0.0:
                l0, l1, l2 = l0 / total, l1 / total, l2 / total
            else:
                l0 = l1 = l2 = 1.0 / 3.0
            barycentrics[row, column, 0] = l0
            barycentrics[row, column, 1] = l1
            barycentrics[row, column, 2] = l2
            depth[row, column] = l0 * iw + l1 * jw + l2 * kw


@kernel
def depth_of(inverse_depth: Array, depth: Array) -> None:
    """depth (H, W) float32 of what `draw` left, +inf where there is no face."""
    height, width = depth.shape
    for row in range(height):
        for column in range(width):
            near = inverse_depth[row, column]
            depth[row, column] = 1.0 / near if near > 0.0 else np.inf
