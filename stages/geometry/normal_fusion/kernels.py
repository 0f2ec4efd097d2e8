"""Loops over voxels and rays. Imported only by `field`, because numba is heavy.

Shared arguments:

origin, step   position of node (0, 0, 0) in frame W, and the distance between nodes
views          (K, 13) float64 per camera: rotation (row-major; columns right, up, back), centre,
               focal length in NDC units
begin, end     range of x indices (or rows) that this call writes, so that calls can run in threads
"""

from __future__ import annotations

import numpy as np

from stages.geometry.jit import kernel

BEHIND = 2.0
"""Behind the visible surface a normal is believed over this much shorter a distance: what lies
deeper may be the other side of a thin part."""
REACH = 2.5
"""Bands at which exp(-x^2) is nothing."""


@kernel
def project(view, x, y, z):  # type: ignore[no-untyped-def]
    """Point -> u, v in [0, 1] of the tile (v down) and depth along the optical axis."""
    dx, dy, dz = x - view[9], y - view[10], z - view[11]
    right = view[0] * dx + view[3] * dy + view[6] * dz
    up = view[1] * dx + view[4] * dy + view[7] * dz
    depth = -(view[2] * dx + view[5] * dy + view[8] * dz)
    scale = 0.5 * view[12] / depth
    return 0.5 + scale * right, 0.5 - scale * up, depth


@kernel
def bilinear(image, u, v):  # type: ignore[no-untyped-def]
    """(S, S) image at u, v in [0, 1], clamped to its border."""
    size = image.shape[0]
    x = min(max(u * size - 0.5, 0.0), size - 1.001)
    y = min(max(v * size - 0.5, 0.0), size - 1.001)
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    top = image[i, j] * (1 - fx) + image[i, j + 1] * fx
    bottom = image[i + 1, j] * (1 - fx) + image[i + 1, j + 1] * fx
    return top * (1 - fy) + bottom * fy


@kernel
def carve(distance, views, origin, step, hull, begin, end):  # type: ignore[no-untyped-def]
    """hull (X, Y, Z): distance to the visual hull in scene units, negative inside.

    distance (K, S, S) in pixels. The largest over the views of the distance to the outline, at
    the voxel's depth.
    """
    size = distance.shape[1]
    for i in range(begin, end):
        x = origin[0] + i * step
        for j in range(hull.shape[1]):
            y = origin[1] + j * step
            for k in range(hull.shape[2]):
                z = origin[2] + k * step
                worst = -1e9
                for n in range(views.shape[0]):
                    u, v, depth = project(views[n], x, y, z)
                    pixel = 2.0 * depth / (views[n, 12] * size)
                    worst = max(worst, bilinear(distance[n], u, v) * pixel)
                hull[i, j, k] = worst


@kernel
def trilinear(field, x, y, z):  # type: ignore[no-untyped-def]
    """Field at node coordinates, which must lie inside."""
    i, j, k = int(x), int(y), int(z)
    fx, fy, fz = x - i, y - j, z - k
    a = field[i, j, k] * (1 - fz) + field[i, j, k + 1] * fz
    b = field[i, j + 1, k] * (1 - fz) + field[i, j + 1, k + 1] * fz
    c = field[i + 1, j, k] * (1 - fz) + field[i + 1, j, k + 1] * fz
    d = field[i + 1, j + 1, k] * (1 - fz) + field[i + 1, j + 1, k + 1] * fz
    return (a * (1 - fy) + b * fy) * (1 - fx) + (c * (1 - fy) + d * fy) * fx


@kernel
def cast_rays(field, distance, view, origin, step, depth, lowest, begin, end):  # type: ignore[no-untyped-def]
    """First surface on each ray through the silhouette.

    distance  (S, S) pixels, of this view
    depth     (R, R) float32: depth of the first crossing to negative; inf where there is none
    lowest    (R, R, 3) int16: the node where the field is lowest, for rays along the outline and
              for rays through the silhouette that meet no surface; -1 for all others
    """
    size = depth.shape[0]
    pixels = distance.shape[0]
    for r in range(begin, end):
        for c in range(size):
            depth[r, c] = np.inf
            lowest[r, c, 0] = -1
            u, v = (c + 0.5) / size, (r + 0.5) / size
            outline = bilinear(distance, u, v)
            grazing = abs(outline) < 0.6 * pixels / size
            if outline > 0.0 and not grazing:
                continue
            right = (2.0 * u - 1.0) / view[12]
            up = (1.0 - 2.0 * v) / view[12]
            start, stop = 0.0, 1e9
            ray = np.empty(3)
            at = np.empty(3)
            for a in range(3):
                ray[a] = view[3 * a] * right + view[3 * a + 1] * up - view[3 * a + 2]
                low = origin[a] - view[9 + a]
                high = low + (field.shape[a] - 1.001) * step
                if abs(ray[a]) > 1e-9:
                    t0, t1 = low / ray[a], high / ray[a]
                    start, stop = max(start, min(t0, t1)), min(stop, max(t0, t1))
                elif low > 0.0 or high < 0.0:
                    stop = -1.0
            if stop <= start:
                continue
            count = int((stop - start) / (0.8 * step)) + 1
            pace = (stop - start) / count
            before, best = 1e9, 1e9
            bx, by, bz = 0.0, 0.0, 0.0
            for s in range(count + 1):
                t = start + s * pace
                for a in range(3):
                    node = (view[9 + a] + t * ray[a] - origin[a]) / step
                    at[a] = min(max(node, 0.0), field.shape[a] - 1.001)
                value = trilinear(field, at[0], at[1], at[2])
                if value <= 0.0 and depth[r, c] == np.inf:
                    back = value / (value - before) if s > 0 else 0.0
                    depth[r, c] = t - back * pace
                    if not grazing:
                        break
                if value < best:
                    best, bx, by, bz = value, at[0], at[1], at[2]
                before = value
            if grazing or depth[r, c] == np.inf:
                lowest[r, c, 0] = int(bx + 0.5)
                lowest[r, c, 1] = int(by + 0.5)
                lowest[r, c, 2] = int(bz + 0.5)


@kernel
def gather(hull, normals, depths, views, origin, step, band, target, weight, hidden, begin, end):  # type: ignore[no-untyped-def]
    """What the normal maps say about each voxel near a visible surface.

    normals  (K, S, S, 3) float32, frame W, shorter than 1 where they are less certain
    depths   (K, R, R) float32, of the current surface
    band     distance along the ray over which a pixel's normal is believed
    target   (X, Y, Z, 3) float32: mean of the views' normals, shorter where they disagree
    weight   (X, Y, Z) float32 in [0, 1]
    hidden   (X, Y, Z) bool: behind the surface in every view
    """
    size, rays = normals.shape[1], depths.shape[1]
    reach = 2.0 * step
    for i in range(begin, end):
        x = origin[0] + i * step
        for j in range(hull.shape[1]):
            y = origin[1] + j * step
            for k in range(hull.shape[2]):
                z = origin[2] + k * step
                total = sx = sy = sz = 0.0
                hidden[i, j, k] = hull[i, j, k] < 0.0
                if hull[i, j, k] < reach:
                    for n in range(views.shape[0]):
                        u, v, depth = project(views[n], x, y, z)
                        if not (0.0 <= u < 1.0 and 0.0 <= v < 1.0):
                            continue
                        seen = depths[n, int(v * rays), int(u * rays)]
                        if seen == np.inf:
                            continue
                        off = (depth - seen) / band
                        if off < 0.0:
                            hidden[i, j, k] = False
                        else:
                            off *= BEHIND
                        if abs(off) > REACH:
                            continue
                        row, column = int(v * size), int(u * size)
                        nx = normals[n, row, column, 0]
                        ny = normals[n, row, column, 1]
                        nz = normals[n, row, column, 2]
                        dx, dy, dz = views[n, 9] - x, views[n, 10] - y, views[n, 11] - z
                        length = np.sqrt(dx * dx + dy * dy + dz * dz)
                        facing = (nx * dx + ny * dy + nz * dz) / length
                        share = max(facing, 0.02) * np.exp(-off * off)
                        total += share
                        sx += share * nx
                        sy += share * ny
                        sz += share * nz
                weight[i, j, k] = min(total, 1.0)
                scale = 1.0 / max(total, 1e-6)
                target[i, j, k, 0] = sx * scale
                target[i, j, k, 1] = sy * scale
                target[i, j, k, 2] = sz * scale
