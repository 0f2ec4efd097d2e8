"""Kernels of packing and baking. Imported where they are used, because numba is heavy."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stages.geometry.jit import kernel

Array: TypeAlias = np.ndarray


@kernel
def profiles(
    x: Array, y: Array, chart: Array, starts: Array, low: Array, high: Array, cells: float
) -> None:
    """Which cells charts cover, column by column.

    x, y (F, 3) float64, corners of faces in their chart, >= 0; chart (F,); column c of chart k is
    entry starts[k] + c of low and high (int32), which get the lowest and highest cell of side
    `cells` that a face's box touches there.
    """
    for f in range(x.shape[0]):
        left = int(min(x[f, 0], x[f, 1], x[f, 2]) / cells)
        right = int(max(x[f, 0], x[f, 1], x[f, 2]) / cells)
        bottom = int(min(y[f, 0], y[f, 1], y[f, 2]) / cells)
        top = int(max(y[f, 0], y[f, 1], y[f, 2]) / cells)
        start = starts[chart[f]]
        for column in range(start + left, start + right + 1):
            low[column] = min(low[column], bottom)
            high[column] = max(high[column], top)


@kernel
def stack(
    side: int, order: Array, starts: Array, low: Array, high: Array, column: Array, row: Array
) -> int:
    """Let charts fall onto a skyline of `side` columns, each where its top ends up lowest.

    Lévy, Petitjean, Ray, Maillot, "Least squares conformal maps for automatic texture atlas
    generation" (SIGGRAPH 2002), section 5. order: charts, as they fall; starts (C + 1,), low, high
    as in `profiles`; column, row (C,) int32 receive their places. Returns the height reached, in
    cells, or -1 if a chart is wider than `side`.
    """
    sky = np.zeros(side, np.int32)
    reached = 0
    for k in order:
        start, width = starts[k], starts[k + 1] - starts[k]
        if width > side:
            return -1
        top = 0
        for c in range(start, start + width):
            top = max(top, high[c])
        best, best_at, least_gap = -1, 0, 0
        for at in range(side - width + 1):
            floor = 0
            for c in range(width):
                floor = max(floor, sky[at + c] - low[start + c])
                if best >= 0 and floor > best:
                    break
            if best >= 0 and floor > best:
                continue
            gap = 0
            for c in range(width):
                gap += floor + low[start + c] - sky[at + c]
            if best < 0 or floor < best or gap < least_gap:
                best, best_at, least_gap = floor, at, gap
        column[k], row[k] = best_at, best
        for c in range(width):
            sky[best_at + c] = best + high[start + c] + 1
        reached = max(reached, best + top + 1)
    return reached


@kernel
def bake(
    top: int,
    bottom: int,
    pix_to_face: Array,
    barycentrics: Array,
    faces: Array,
    positions: Array,
    normals: Array,
    trust: Array,
    hidden: Array,
    centers: Array,
    axes: Array,
    focal: Array,
    weights: Array,
    images: Array,
    alphas: Array,
    nearest: Array,
    power: float,
    along_axis: bool,
    depth_test: bool,
    min_cosine: float,
    reach: float,
    depth_bias: float,
    threshold: float,
    texture: Array,
) -> None:
    """Colours of the texels in rows [top, bottom): `projection.gather`, `visibility.by_depth` and
    `Evidence.blend` for one surface point a texel.

    pix_to_face, barycentrics (H, W) and (H, W, 3): the surface point of each texel
    faces (F, 3); positions, normals, hidden (V, 3); trust (V, K) in [0, 1], how far view k counts
    near a vertex; all float64
    centers (K, 3), axes (K, 3, 3), focal (K,), weights (K,): cameras and weights of the views
    images (K, S, S, 3), alphas (K, S, S), float32
    nearest (K, R, R) float32: the least depth of the pixels that a look-up reads, and its margin
    reach: from a point to the far corner of those, in pixels
    texture (H, W, 3) uint8 receives the colours; texels without a face are left
    """
    views, size = images.shape[0], images.shape[1]
    raster = nearest.shape[1]
    point, normal, soft = np.empty(3), np.empty(3), np.empty(views)
    base, value = np.empty(3), np.empty(3)
    for r in range(top, bottom):
        for c in range(pix_to_face.shape[1]):
            f = pix_to_face[r, c]
            if f < 0:
                continue
            w0 = np.float64(barycentrics[r, c, 0])
            w1 = np.float64(barycentrics[r, c, 1])
            w2 = np.float64(barycentrics[r, c, 2])
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            for a in range(3):
                point[a] = w0 * positions[i, a] + w1 * positions[j, a] + w2 * positions[k, a]
                normal[a] = w0 * normals[i, a] + w1 * normals[j, a] + w2 * normals[k, a]
                base[a] = w0 * hidden[i, a] + w1 * hidden[j, a] + w2 * hidden[k, a]
                value[a] = 0.0
            length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
            if length > 0.0:
                for a in range(3):
                    normal[a] /= length
            total = 0.0
            for v in range(views):
                soft[v] = w0 * trust[i, v] + w1 * trust[j, v] + w2 * trust[k, v]
                if soft[v] <= 0.0:
                    continue
                dx = point[0] - centers[v, 0]
                dy = point[1] - centers[v, 1]
                dz = point[2] - centers[v, 2]
                x = dx * axes[v, 0, 0] + dy * axes[v, 1, 0] + dz * axes[v, 2, 0]
                y = dx * axes[v, 0, 1] + dy * axes[v, 1, 1] + dz * axes[v, 2, 1]
                depth = -(dx * axes[v, 0, 2] + dy * axes[v, 1, 2] + dz * axes[v, 2, 2])
                if depth <= 0.0:
                    continue
                u = (focal[v] * x / depth + 1.0) * 0.5
                t = (1.0 - focal[v] * y / depth) * 0.5
                if u < 0.0 or u > 1.0 or t < 0.0 or t > 1.0:
                    continue
                if along_axis:
                    cosine = (
                        normal[0] * axes[v, 0, 2]
                        + normal[1] * axes[v, 1, 2]
                        + normal[2] * axes[v, 2, 2]
                    )
                else:
                    cosine = -(normal[0] * dx + normal[1] * dy + normal[2] * dz) / np.sqrt(
                        dx * dx + dy * dy + dz * dz
                    )
                if depth_test:
                    if cosine <= min_cosine:
                        continue
                    at_x = min(max(int(u * raster - 0.5), 0), raster - 1)
                    at_y = min(max(int(t * raster - 0.5), 0), raster - 1)
                    pixel = 2.0 * depth / (focal[v] * raster)
                    slope = np.sqrt(max(1.0 - cosine * cosine, 0.0)) / cosine
                    if nearest[v, at_y, at_x] < depth - depth_bias - reach * pixel * slope:
                        continue
                px = min(max(u * size - 0.5, 0.0), size - 1.0)
                py = min(max(t * size - 0.5, 0.0), size - 1.0)
                x0, y0 = min(int(px), max(size - 2, 0)), min(int(py), max(size - 2, 0))
                x1, y1 = min(x0 + 1, size - 1), min(y0 + 1, size - 1)
                fx, fy = px - x0, py - y0
                a00, a01 = (1.0 - fx) * (1.0 - fy), fx * (1.0 - fy)
                a10, a11 = (1.0 - fx) * fy, fx * fy
                alpha = (
                    a00 * alphas[v, y0, x0]
                    + a01 * alphas[v, y0, x1]
                    + a10 * alphas[v, y1, x0]
                    + a11 * alphas[v, y1, x1]
                )
                share = abs(cosine) ** power * weights[v] * alpha * soft[v]
                total += share
                for a in range(3):
                    value[a] += share * (
                        a00 * images[v, y0, x0, a]
                        + a01 * images[v, y0, x1, a]
                        + a10 * images[v, y1, x0, a]
                        + a11 * images[v, y1, x1, a]
                    )
            missing = max(threshold - total, 0.0)
            for a in range(3):
                color = (value[a] + base[a] * missing) / max(total, threshold)
                texture[r, c, a] = np.uint8(min(max(color, 0.0), 1.0) * 255.0 + 0.5)
