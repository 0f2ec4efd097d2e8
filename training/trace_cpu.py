"""The signed distance to random objects, and the marches along rays, for the CPU: ray by ray.

The definition of the solids; `trace_gpu` computes the same on a card.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from training.parts import Slot

CENTRE, AXES, ON, OP, KIND, HALF = Slot.CENTRE, Slot.AXES, Slot.ON, Slot.OP, Slot.KIND, Slot.HALF
ROUND, TAPER_X, TAPER_Z, BEND, RING = Slot.ROUND, Slot.TAPER_X, Slot.TAPER_Z, Slot.BEND, Slot.RING
MIRROR_X, MIRROR_Z, FOLD, SMOOTH = Slot.MIRROR_X, Slot.MIRROR_Z, Slot.FOLD, Slot.SMOOTH
OUTLINE, INFLATED, STEP = Slot.OUTLINE, Slot.INFLATED, Slot.STEP
NEAR = 0.0015
"""Distance at which a ray has arrived."""


@numba.njit(cache=False)
def _outline(u: float, v: float, table: np.ndarray) -> float:
    """Bilinear look-up at (u, v) in [-1, 1]; outside, the way to the square is added."""
    size = table.shape[0]
    beyond = max(max(abs(u), abs(v)) - 1.0, 0.0)
    column = min(max((u * 0.5 + 0.5) * size - 0.5, 0.0), size - 1.001)
    line = min(max((0.5 - v * 0.5) * size - 0.5, 0.0), size - 1.001)
    left, top = int(column), int(line)
    a, b = column - left, line - top
    upper = table[top, left] * (1 - a) + table[top, left + 1] * a
    lower = table[top + 1, left] * (1 - a) + table[top + 1, left + 1] * a
    return upper * (1 - b) + lower * b + beyond


@numba.njit(cache=False)
def _rectangle(a: float, b: float, c: float) -> float:
    """Distance to a box from the coordinates' excess over its half sides."""
    outside = math.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2 + max(c, 0.0) ** 2)
    return outside + min(max(a, b, c), 0.0)


@numba.njit(cache=False)
def _part(x: float, y: float, z: float, row: np.ndarray, outlines: np.ndarray) -> float:
    if row[MIRROR_X] > 0.5:
        x = abs(x)
    if row[MIRROR_Z] > 0.5:
        z = abs(z)
    if row[FOLD] > 1.5:
        radius, angle, share = math.sqrt(x * x + z * z), math.atan2(z, x), 2.0 * math.pi / row[FOLD]
        angle -= math.floor(angle / share + 0.5) * share
        x, z = radius * math.cos(angle), radius * math.sin(angle)
    x -= row[CENTRE]
    y -= row[CENTRE + 1]
    z -= row[CENTRE + 2]
    qx = row[AXES] * x + row[AXES + 3] * y + row[AXES + 6] * z
    qy = row[AXES + 1] * x + row[AXES + 4] * y + row[AXES + 7] * z
    qz = row[AXES + 2] * x + row[AXES + 5] * y + row[AXES + 8] * z
    hx, hy, hz = row[HALF], row[HALF + 1], row[HALF + 2]
    rounding, kind = row[ROUND], row[KIND]
    u = min(max(qy / (hy + rounding + 1e-3), -1.3), 1.3)
    wide, deep = max(1.0 + row[TAPER_X] * u, 0.03), max(1.0 + row[TAPER_Z] * u, 0.03)
    qx = (qx - row[BEND] * u * u) / wide
    qz = qz / deep
    if kind > 2.5:  # after Quilez, "ellipsoid distance": exact on the surface, a bound near it
        k0 = math.sqrt((qx / hx) ** 2 + (qy / hy) ** 2 + (qz / hz) ** 2 + 1e-9)
        k1 = math.sqrt((qx / hx**2) ** 2 + (qy / hy**2) ** 2 + (qz / hz**2) ** 2 + 1e-9)
        found = k0 * (k0 - 1.0) / k1
    elif kind > 1.5:
        flat = _outline(qx / hx, qy / hx, outlines[int(row[OUTLINE])]) * hx
        if row[INFLATED] > 0.0:
            rise = 1.0 - min(max(-flat / max(row[INFLATED], 1e-4), 0.0), 1.0)
            found = max(flat, abs(qz) - hz * math.sqrt(max(1.0 - rise * rise, 0.0)))
        else:
            edge = min(rounding, hz * 0.95)
            found = _rectangle(flat + edge, abs(qz) - hz + edge, -1000.0) - edge
    elif kind > 0.5:
        radius = math.sqrt(qx * qx + qz * qz + 1e-9) - row[RING]
        found = _rectangle(abs(radius) - hx, abs(qy) - hy, -1000.0) - rounding
    else:
        found = _rectangle(abs(qx) - hx, abs(qy) - hy, abs(qz) - hz) - rounding
    return found * row[STEP] * min(wide, deep, 1.0)


@numba.njit(cache=False)
def distance(x: float, y: float, z: float, parts: np.ndarray, outlines: np.ndarray) -> tuple:
    """A bound of the distance, negative inside, and the number of the nearest part."""
    nearest, part = 1000.0, 0
    for index in range(len(parts)):
        row = parts[index]
        if row[ON] < 0.5:
            continue
        own = _part(x, y, z, row, outlines)
        if row[OP] > 0.5:
            nearest = max(nearest, -own)
            continue
        width = max(row[SMOOTH], 1e-4)
        blend = max(width - abs(nearest - own), 0.0) / width
        if own < nearest:
            part = index
        nearest = min(nearest, own) - blend * blend * width * 0.25
    return nearest, part


@numba.njit(cache=False)
def _surface(x: float, y: float, z: float, parts: np.ndarray, outlines: np.ndarray) -> tuple:
    """Unit normal (3) and the part's number at a point of the surface."""
    e = 0.002
    a = distance(x + e, y - e, z - e, parts, outlines)[0]
    c = distance(x - e, y - e, z + e, parts, outlines)[0]
    f = distance(x - e, y + e, z - e, parts, outlines)[0]
    g = distance(x + e, y + e, z + e, parts, outlines)[0]
    nx, ny, nz = a - c - f + g, -a - c + f + g, -a + c - f + g
    length = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-18)
    return nx * length, ny * length, nz * length, distance(x, y, z, parts, outlines)[1]


@numba.njit(parallel=True, cache=False)
def _trace(
    parts: np.ndarray,
    outlines: np.ndarray,
    rays: np.ndarray,
    eyes: np.ndarray,
    spans: np.ndarray,
    steps: int,
    out: np.ndarray,
) -> None:
    count, _, pixels = rays.shape
    for ray in numba.prange(count * pixels):
        b, n = ray // pixels, ray % pixels
        solid, (near, far) = parts[b], spans[b]
        ex, ey, ez = eyes[b]
        rx, ry, rz = rays[b, 0, n], rays[b, 1, n], rays[b, 2, n]
        t, hit = near, 0.0
        for _ in range(steps):
            d = distance(ex + rx * t, ey + ry * t, ez + rz * t, solid, outlines)[0]
            if d < NEAR and t < far:
                hit = 1.0
            if hit > 0.5 or t >= far:
                break
            t += max(d, NEAR)
        back = far
        if hit > 0.5:
            for _ in range(steps):
                d = distance(ex + rx * back, ey + ry * back, ez + rz * back, solid, outlines)[0]
                if d < NEAR or back < t:
                    break
                back -= max(d, NEAR)
        back = max(back, t)
        out[b, 0, n], out[b, 1, n], out[b, 2, n] = hit, t, back
        for first, way in ((3, t), (7, back)):
            x, y, z = ex + rx * way, ey + ry * way, ez + rz * way
            nx, ny, nz, part = _surface(x, y, z, solid, outlines)
            out[b, first, n], out[b, first + 1, n], out[b, first + 2, n] = nx, ny, nz
            out[b, first + 3, n] = part


@numba.njit(parallel=True, cache=False)
def _light(
    parts: np.ndarray,
    outlines: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
    lights: np.ndarray,
    sharp: float,
    out: np.ndarray,
) -> None:
    count, _, pixels = points.shape
    for point in numba.prange(count * pixels):
        b, n = point // pixels, point % pixels
        x, y, z = points[b, 0, n], points[b, 1, n], points[b, 2, n]
        lit, dark = 1.0, 0.0
        if abs(x) < 20.0:
            nx, ny, nz = normals[b, 0, n], normals[b, 1, n], normals[b, 2, n]
            lx, ly, lz = lights[b]
            t, solid = 0.03, parts[b]
            for _ in range(18):
                sx, sy, sz = (
                    x + nx * 0.012 + lx * t,
                    y + ny * 0.012 + ly * t,
                    z + nz * 0.012 + lz * t,
                )
                d = distance(sx, sy, sz, solid, outlines)[0]
                lit = min(lit, max(sharp * d / t, 0.0))
                t += min(max(d, 0.025), 0.25)
            for k in range(1, 4):
                h = 0.07 * k
                d = distance(x + nx * h, y + ny * h, z + nz * h, solid, outlines)[0]
                dark += max(h - d, 0.0) / (h * k * 2.2)
        out[b, 0, n], out[b, 1, n] = lit, max(1.0 - dark, 0.0)


def trace(
    parts: Tensor, outlines: Tensor, rays: Tensor, eyes: Tensor, spans: Tensor, steps: int
) -> Tensor:
    """As `training.trace.trace`."""
    out = np.empty((rays.shape[0], 11, rays.shape[2]), np.float32)
    solids, tables, ways, origins, ends = map(_array, (parts, outlines, rays, eyes, spans))
    _trace(solids, tables, ways, origins, ends, steps, out)
    return torch.from_numpy(out)


def light(
    parts: Tensor, outlines: Tensor, points: Tensor, normals: Tensor, lights: Tensor, sharp: float
) -> Tensor:
    """As `training.trace.light`."""
    out = np.empty((points.shape[0], 2, points.shape[2]), np.float32)
    solids, tables, places, ups, ways = map(_array, (parts, outlines, points, normals, lights))
    _light(solids, tables, places, ups, ways, sharp, out)
    return torch.from_numpy(out)


def _array(values: Tensor) -> np.ndarray:
    return values.contiguous().numpy()
