"""Kernels over a tree of boxes: the nearest triangle to a point, whether a ray meets a triangle.

The tree is complete and implicit: node n has the children 2 n + 1 and 2 n + 2, and of the ordered
triangles leaf k holds rows k * LEAF to (k + 1) * LEAF. `corners` is (T, 3, 3) float64 with rows
a, b - a, c - a of each triangle; `low` and `high` are (N, 3) boxes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stages.geometry.jit import kernel

Array: TypeAlias = np.ndarray

LEAF = 4


@kernel
def nearest(
    points: Array, corners: Array, low: Array, high: Array, found: Array, squared: Array
) -> None:
    """Row of the nearest triangle and squared distance to it, for (n, 3) float64 points."""
    inner = low.shape[0] // 2
    stack = np.empty(64, np.int64)
    bounds = np.empty(64, np.float64)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        best, best_row = np.inf, 0
        stack[0], bounds[0], top = 0, 0.0, 1
        while top > 0:
            top -= 1
            node = stack[top]
            if bounds[top] >= best:
                continue
            if node >= inner:
                first = (node - inner) * LEAF
                for row in range(first, first + LEAF):
                    distance = triangle_distance(corners, row, x, y, z)
                    if distance < best:
                        best, best_row = distance, row
                continue
            left = 2 * node + 1
            to_left = box_distance(low, high, left, x, y, z)
            to_right = box_distance(low, high, left + 1, x, y, z)
            if to_left < to_right:  # the nearer child goes on top of the stack
                stack[top], bounds[top] = left + 1, to_right
                stack[top + 1], bounds[top + 1] = left, to_left
            else:
                stack[top], bounds[top] = left, to_left
                stack[top + 1], bounds[top + 1] = left + 1, to_right
            top += 2
        found[i] = best_row
        squared[i] = best


@kernel
def box_distance(low: Array, high: Array, node: int, x: float, y: float, z: float) -> float:
    """Squared distance of a point to a node's box, 0 inside."""
    dx = max(low[node, 0] - x, 0.0, x - high[node, 0])
    dy = max(low[node, 1] - y, 0.0, y - high[node, 1])
    dz = max(low[node, 2] - z, 0.0, z - high[node, 2])
    return dx * dx + dy * dy + dz * dz


@kernel
def triangle_distance(corners: Array, row: int, x: float, y: float, z: float) -> float:
    """Squared distance of a point to a triangle (Ericson, Real-Time Collision Detection, 5.1.5)."""
    t = corners[row]
    px, py, pz = x - t[0, 0], y - t[0, 1], z - t[0, 2]
    e, f = t[1], t[2]
    d1 = e[0] * px + e[1] * py + e[2] * pz
    d2 = f[0] * px + f[1] * py + f[2] * pz
    ee = e[0] * e[0] + e[1] * e[1] + e[2] * e[2]
    ef = e[0] * f[0] + e[1] * f[1] + e[2] * f[2]
    ff = f[0] * f[0] + f[1] * f[1] + f[2] * f[2]
    d3, d4 = d1 - ee, d2 - ef
    d5, d6 = d1 - ef, d2 - ff
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    u, v = 0.0, 0.0
    if d1 <= 0.0 and d2 <= 0.0:
        pass
    elif d3 >= 0.0 and d4 <= d3:
        u = 1.0
    elif d6 >= 0.0 and d5 <= d6:
        v = 1.0
    elif vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        u = d1 / ee
    elif vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        v = d2 / ff
    elif va <= 0.0 and d4 >= d3 and d5 >= d6:
        v = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        u = 1.0 - v
    else:
        u, v = vb / (va + vb + vc), vc / (va + vb + vc)
    px -= u * e[0] + v * f[0]
    py -= u * e[1] + v * f[1]
    pz -= u * e[2] + v * f[2]
    return px * px + py * py + pz * pz


@kernel
def escapes(
    points: Array,
    directions: Array,
    corners: Array,
    low: Array,
    high: Array,
    start: float,
    free: Array,
) -> None:
    """free (n,) uint8: 1 where some ray from the point along a direction meets no triangle.

    points (n, 3) and directions (m, 3) float64; a hit nearer than `start` is the point's own
    surface and does not count.
    """
    inner = low.shape[0] // 2
    stack = np.empty(64, np.int64)
    for i in range(points.shape[0]):
        free[i] = 0
        for j in range(directions.shape[0]):
            stack[0], top = 0, 1
            blocked = False
            while top > 0 and not blocked:
                top -= 1
                node = stack[top]
                if not ray_meets_box(points[i], directions[j], low[node], high[node]):
                    continue
                if node >= inner:
                    first = (node - inner) * LEAF
                    for row in range(first, first + LEAF):
                        if ray_distance(points[i], directions[j], corners[row]) > start:
                            blocked = True
                            break
                    continue
                stack[top], stack[top + 1] = 2 * node + 1, 2 * node + 2
                top += 2
            if not blocked:
                free[i] = 1
                break


@kernel
def ray_meets_box(origin: Array, direction: Array, low: Array, high: Array) -> bool:
    """Slab test (Kay and Kajiya, 1986); no component of the direction may be 0."""
    near, far = 0.0, np.inf
    for axis in range(3):
        inverse = 1.0 / direction[axis]
        a = (low[axis] - origin[axis]) * inverse
        b = (high[axis] - origin[axis]) * inverse
        near = max(near, min(a, b))
        far = min(far, max(a, b))
    return near <= far


@kernel
def ray_distance(origin: Array, direction: Array, t: Array) -> float:
    """Distance along the ray to the triangle, -1 without a hit (Moeller and Trumbore, 1997)."""
    e, f, d = t[1], t[2], direction
    hx = d[1] * f[2] - d[2] * f[1]
    hy = d[2] * f[0] - d[0] * f[2]
    hz = d[0] * f[1] - d[1] * f[0]
    det = e[0] * hx + e[1] * hy + e[2] * hz
    if det == 0.0:
        return -1.0
    sx, sy, sz = origin[0] - t[0, 0], origin[1] - t[0, 1], origin[2] - t[0, 2]
    u = (sx * hx + sy * hy + sz * hz) / det
    if u < 0.0 or u > 1.0:
        return -1.0
    qx, qy, qz = sy * e[2] - sz * e[1], sz * e[0] - sx * e[2], sx * e[1] - sy * e[0]
    v = (d[0] * qx + d[1] * qy + d[2] * qz) / det
    if v < 0.0 or u + v > 1.0:
        return -1.0
    return (f[0] * qx + f[1] * qy + f[2] * qz) / det
