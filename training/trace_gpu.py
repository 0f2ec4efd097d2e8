"""`training.trace_cpu` as Triton kernels: one program, one tile of pixels.

The kernels read a part's numbers by their place in the row; `training.parts.Slot` names them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from training.parts import MAX_PARTS, ROW

TILE = 128


@triton.jit
def _distance(px, py, pz, parts, outlines, size, count: tl.constexpr, row: tl.constexpr):
    nearest = px * 0.0 + 1000.0
    part = px * 0.0
    for index in range(count):
        o = parts + index * row
        if tl.load(o + 12) > 0.5:
            x = tl.where(tl.load(o + 23) > 0.5, tl.abs(px), px)
            z = tl.where(tl.load(o + 24) > 0.5, tl.abs(pz), pz)
            fold = tl.load(o + 25)
            if fold > 1.5:
                radius = tl.sqrt(x * x + z * z + 1e-12)
                # atan2 by a polynomial: Triton has none. Error below 1e-5.
                big = tl.maximum(tl.abs(x), tl.abs(z)) + 1e-12
                s = tl.minimum(tl.abs(x), tl.abs(z)) / big
                q = s * s
                a = (
                    (((-0.0117212 * q + 0.05265332) * q - 0.11643287) * q + 0.19354346) * q
                    - 0.33262347
                ) * q
                a = (a + 0.99997726) * s
                a = tl.where(tl.abs(z) > tl.abs(x), 1.57079633 - a, a)
                a = tl.where(x < 0, 3.14159265 - a, a)
                a = tl.where(z < 0, -a, a)
                share = 6.28318531 / fold
                a = a - tl.floor(a / share + 0.5) * share
                x = radius * tl.cos(a)
                z = radius * tl.sin(a)
            dx = x - tl.load(o)
            dy = py - tl.load(o + 1)
            dz = z - tl.load(o + 2)
            qx = tl.load(o + 3) * dx + tl.load(o + 6) * dy + tl.load(o + 9) * dz
            qy = tl.load(o + 4) * dx + tl.load(o + 7) * dy + tl.load(o + 10) * dz
            qz = tl.load(o + 5) * dx + tl.load(o + 8) * dy + tl.load(o + 11) * dz
            hx = tl.load(o + 15)
            hy = tl.load(o + 16)
            hz = tl.load(o + 17)
            r = tl.load(o + 18)
            kind = tl.load(o + 14)
            u = tl.minimum(tl.maximum(qy / (hy + r + 1e-3), -1.3), 1.3)
            wide = tl.maximum(1.0 + tl.load(o + 19) * u, 0.03)
            deep = tl.maximum(1.0 + tl.load(o + 20) * u, 0.03)
            qx = (qx - tl.load(o + 21) * u * u) / wide
            qz = qz / deep
            own = qx
            if kind > 2.5:
                ex = qx / hx
                ey = qy / hy
                ez = qz / hz
                k0 = tl.sqrt(ex * ex + ey * ey + ez * ez + 1e-9)
                ex = ex / hx
                ey = ey / hy
                ez = ez / hz
                own = k0 * (k0 - 1.0) / tl.sqrt(ex * ex + ey * ey + ez * ez + 1e-9)
            elif kind > 1.5:
                lu = qx / hx
                lv = qy / hx
                beyond = tl.maximum(tl.maximum(tl.abs(lu), tl.abs(lv)) - 1.0, 0.0)
                c = tl.minimum(tl.maximum((lu * 0.5 + 0.5) * size - 0.5, 0.0), size - 1.001)
                line = tl.minimum(tl.maximum((0.5 - lv * 0.5) * size - 0.5, 0.0), size - 1.001)
                fa = c - tl.floor(c)
                fb = line - tl.floor(line)
                at = outlines + tl.load(o + 27).to(tl.int32) * size * size
                at = at + tl.floor(line).to(tl.int32) * size + tl.floor(c).to(tl.int32)
                upper = tl.load(at) * (1 - fa) + tl.load(at + 1) * fa
                lower = tl.load(at + size) * (1 - fa) + tl.load(at + size + 1) * fa
                flat = (upper * (1 - fb) + lower * fb + beyond) * hx
                inflated = tl.load(o + 28)
                rise = 1.0 - tl.minimum(tl.maximum(-flat / tl.maximum(inflated, 1e-4), 0.0), 1.0)
                puffed = tl.maximum(
                    flat, tl.abs(qz) - hz * tl.sqrt(tl.maximum(1.0 - rise * rise, 0.0))
                )
                edge = tl.minimum(r, hz * 0.95)
                a0 = flat + edge
                a1 = tl.abs(qz) - hz + edge
                m0 = tl.maximum(a0, 0.0)
                m1 = tl.maximum(a1, 0.0)
                plate = tl.sqrt(m0 * m0 + m1 * m1) + tl.minimum(tl.maximum(a0, a1), 0.0) - edge
                own = tl.where(inflated > 0.0, puffed, plate)
            elif kind > 0.5:
                a0 = tl.abs(tl.sqrt(qx * qx + qz * qz + 1e-9) - tl.load(o + 22)) - hx
                a1 = tl.abs(qy) - hy
                m0 = tl.maximum(a0, 0.0)
                m1 = tl.maximum(a1, 0.0)
                own = tl.sqrt(m0 * m0 + m1 * m1) + tl.minimum(tl.maximum(a0, a1), 0.0) - r
            else:
                a0 = tl.abs(qx) - hx
                a1 = tl.abs(qy) - hy
                a2 = tl.abs(qz) - hz
                m0 = tl.maximum(a0, 0.0)
                m1 = tl.maximum(a1, 0.0)
                m2 = tl.maximum(a2, 0.0)
                own = tl.sqrt(m0 * m0 + m1 * m1 + m2 * m2)
                own = own + tl.minimum(tl.maximum(tl.maximum(a0, a1), a2), 0.0) - r
            own = own * tl.load(o + 29) * tl.minimum(tl.minimum(wide, deep), 1.0)
            width = tl.maximum(tl.load(o + 26), 1e-4)
            blend = tl.maximum(width - tl.abs(nearest - own), 0.0) / width
            joined = tl.minimum(nearest, own) - blend * blend * width * 0.25
            if tl.load(o + 13) > 0.5:
                nearest = tl.maximum(nearest, -own)
            else:
                part = tl.where(own < nearest, index * 1.0, part)
                nearest = joined
    return nearest, part


@triton.jit
def _surface(x, y, z, parts, outlines, size, count: tl.constexpr, row: tl.constexpr):
    e = 0.002
    a, _ = _distance(x + e, y - e, z - e, parts, outlines, size, count, row)
    c, _ = _distance(x - e, y - e, z + e, parts, outlines, size, count, row)
    f, _ = _distance(x - e, y + e, z - e, parts, outlines, size, count, row)
    g, _ = _distance(x + e, y + e, z + e, parts, outlines, size, count, row)
    _, part = _distance(x, y, z, parts, outlines, size, count, row)
    nx = a - c - f + g
    ny = -a - c + f + g
    nz = -a + c - f + g
    length = 1.0 / tl.sqrt(nx * nx + ny * ny + nz * nz + 1e-18)
    return nx * length, ny * length, nz * length, part


@triton.jit
def _trace(
    parts, outlines, rays, eyes, spans, out, size, steps, pixels,
    count: tl.constexpr, row: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1)
    n = tl.program_id(0) * tile + tl.arange(0, tile)
    there = n < pixels
    parts += b * count * row
    at = rays + b * 3 * pixels + n
    rx = tl.load(at, there, 0.0)
    ry = tl.load(at + pixels, there, 0.0)
    rz = tl.load(at + 2 * pixels, there, 1.0)
    ex = tl.load(eyes + b * 3)
    ey = tl.load(eyes + b * 3 + 1)
    ez = tl.load(eyes + b * 3 + 2)
    near = tl.load(spans + b * 2)
    far = tl.load(spans + b * 2 + 1)
    t = rx * 0.0 + near
    hit = rx * 0.0
    going = 1
    for _ in range(steps):
        if going > 0:  # a `while` over the tile fails to compile with Triton 3.6
            d, _p = _distance(
                ex + rx * t, ey + ry * t, ez + rz * t, parts, outlines, size, count, row
            )
            hit = tl.where((d < 0.0015) & (t < far), 1.0, hit)
            moving = (hit < 0.5) & (t < far)
            t = tl.where(moving, t + tl.maximum(d, 0.0015), t)
            going = tl.sum(moving.to(tl.int32))
    back = rx * 0.0 + far
    arrived = 1.0 - hit
    going = tl.sum((hit > 0.5).to(tl.int32))
    for _ in range(steps):
        if going > 0:
            bx = ex + rx * back
            by = ey + ry * back
            d, _p = _distance(bx, by, ez + rz * back, parts, outlines, size, count, row)
            arrived = tl.where((d < 0.0015) | (back < t), 1.0, arrived)
            back = tl.where(arrived < 0.5, back - tl.maximum(d, 0.0015), back)
            going = tl.sum((arrived < 0.5).to(tl.int32))
    back = tl.maximum(back, t)
    o = out + b * 11 * pixels + n
    tl.store(o, hit, there)
    tl.store(o + pixels, t, there)
    tl.store(o + 2 * pixels, back, there)
    for side in range(2):
        way = tl.where(side > 0, back, t)
        nx, ny, nz, part = _surface(
            ex + rx * way, ey + ry * way, ez + rz * way, parts, outlines, size, count, row
        )
        at = o + (3 + 4 * side) * pixels
        tl.store(at, nx, there)
        tl.store(at + pixels, ny, there)
        tl.store(at + 2 * pixels, nz, there)
        tl.store(at + 3 * pixels, part, there)


@triton.jit
def _light(
    parts, outlines, points, normals, lights, out, size, pixels, sharp,
    count: tl.constexpr, row: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1)
    n = tl.program_id(0) * tile + tl.arange(0, tile)
    there = n < pixels
    parts += b * count * row
    at = points + b * 3 * pixels + n
    x = tl.load(at, there, 50.0)
    y = tl.load(at + pixels, there, 50.0)
    z = tl.load(at + 2 * pixels, there, 50.0)
    at = normals + b * 3 * pixels + n
    nx = tl.load(at, there, 0.0)
    ny = tl.load(at + pixels, there, 1.0)
    nz = tl.load(at + 2 * pixels, there, 0.0)
    lx = tl.load(lights + b * 3)
    ly = tl.load(lights + b * 3 + 1)
    lz = tl.load(lights + b * 3 + 2)
    lit = x * 0.0 + 1.0
    open_ = x * 0.0
    if tl.min(tl.abs(x)) < 20.0:
        t = x * 0.0 + 0.03
        for _ in range(18):
            sx = x + nx * 0.012 + lx * t
            sy = y + ny * 0.012 + ly * t
            sz = z + nz * 0.012 + lz * t
            d, _p = _distance(sx, sy, sz, parts, outlines, size, count, row)
            lit = tl.minimum(lit, tl.maximum(sharp * d / t, 0.0))
            t += tl.minimum(tl.maximum(d, 0.025), 0.25)
        for k in range(1, 4):
            h = 0.07 * k
            d, _p = _distance(x + nx * h, y + ny * h, z + nz * h, parts, outlines, size, count, row)
            open_ += tl.maximum(h - d, 0.0) / (h * k * 2.2)
    o = out + b * 2 * pixels + n
    tl.store(o, lit, there)
    tl.store(o + pixels, tl.maximum(1.0 - open_, 0.0), there)


def trace(
    parts: Tensor, outlines: Tensor, rays: Tensor, eyes: Tensor, spans: Tensor, steps: int
) -> Tensor:
    """As `training.trace.trace`, on the card. (B, 11, P) float32."""
    count, _, pixels = rays.shape
    out = torch.empty(count, 11, pixels, device=rays.device)
    _trace[(triton.cdiv(pixels, TILE), count)](
        parts, outlines, rays.contiguous(), eyes.contiguous(), spans.contiguous(), out,
        outlines.shape[1], steps, pixels, MAX_PARTS, ROW, TILE,
    )  # fmt: skip
    return out


def light(
    parts: Tensor, outlines: Tensor, points: Tensor, normals: Tensor, lights: Tensor, sharp: float
) -> Tensor:
    """As `training.trace.light`, on the card. (B, 2, P) float32."""
    count, _, pixels = points.shape
    out = torch.empty(count, 2, pixels, device=points.device)
    _light[(triton.cdiv(pixels, TILE), count)](
        parts, outlines, points.contiguous(), normals.contiguous(), lights.contiguous(), out,
        outlines.shape[1], pixels, sharp, MAX_PARTS, ROW, TILE,
    )  # fmt: skip
    return out
