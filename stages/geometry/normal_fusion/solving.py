"""Loops that write down and solve what the field has to fulfil; see `field`. Imported only by it,
because numba is heavy.

Shared arguments: hull, field (X, Y, Z) float32; target (X, Y, Z, 3) float32, the mean of the views'
normals, and weight (X, Y, Z) float32; step, the distance between nodes; begin, end: the range of x
indices that this call writes, so that calls can run in threads.
"""

from __future__ import annotations

import numpy as np

from stages.geometry.jit import kernel


@kernel
def slope_at(field, i, j, k, step):  # type: ignore[no-untyped-def]
    """The gradient at a node; at the border of the grid by one side."""
    nx, ny, nz = field.shape
    i0, i1 = max(i - 1, 0), min(i + 1, nx - 1)
    j0, j1 = max(j - 1, 0), min(j + 1, ny - 1)
    k0, k1 = max(k - 1, 0), min(k + 1, nz - 1)
    return (
        (field[i1, j, k] - field[i0, j, k]) / ((i1 - i0) * step),
        (field[i, j1, k] - field[i, j0, k]) / ((j1 - j0) * step),
        (field[i, j, k1] - field[i, j, k0]) / ((k1 - k0) * step),
    )


@kernel
def contact(hull, target, weight, step, unseen, low, high, most, screen, begin, end):  # type: ignore[no-untyped-def]
    """screen (X, Y, Z) float32: how surely the surface touches the hull at a node next to it.

    `most` where the hull's own normal is the one that the views see: where the cosine between both
    reaches `high`; nothing from `low` down, and where the weight is below `unseen`.
    """
    for i in range(begin, end):
        for j in range(hull.shape[1]):
            for k in range(hull.shape[2]):
                screen[i, j, k] = 0.0
                if abs(hull[i, j, k]) >= step or weight[i, j, k] < unseen:
                    continue
                gx, gy, gz = slope_at(hull, i, j, k, step)
                tx, ty, tz = target[i, j, k, 0], target[i, j, k, 1], target[i, j, k, 2]
                length = np.sqrt((gx * gx + gy * gy + gz * gz) * (tx * tx + ty * ty + tz * tz))
                cosine = (gx * tx + gy * ty + gz * tz) / max(length, 1e-6)
                screen[i, j, k] = most * min(max((cosine - low) / (high - low), 0.0), 1.0)


@kernel
def flatten_underside(field, target, weight, step, unseen, down, begin, end):  # type: ignore[no-untyped-def]
    """Let nodes that no view sees, and whose surface looks down, want to be flat with weight
    `down`."""
    for i in range(begin, end):
        for j in range(field.shape[1]):
            for k in range(field.shape[2]):
                if weight[i, j, k] >= unseen:
                    continue
                gx, gy, gz = slope_at(field, i, j, k, step)
                if gy < -0.6 * (np.sqrt(gx * gx + gy * gy + gz * gz) + 1e-6):
                    target[i, j, k, 0], target[i, j, k, 1], target[i, j, k, 2] = 0.0, -1.0, 0.0
                    weight[i, j, k] = down


@kernel
def trust(target, weight, i, j, k):  # type: ignore[no-untyped-def]
    """Of a node: how sure its normal is, and what makes a unit vector of it. Views that disagree
    shorten their mean, and count for less."""
    x, y, z = target[i, j, k, 0], target[i, j, k, 1], target[i, j, k, 2]
    squared = x * x + y * y + z * z
    return weight[i, j, k] * squared, 1.0 / max(np.sqrt(squared), 1e-6)


@kernel
def edges(field, hull, hidden, target, weight, free, step, floor, slope, edge, begin, end):  # type: ignore[no-untyped-def]
    """slope, edge (X, Y, Z, 3) float32: the wanted slope and the weight of a node's edges towards
    +x, +y, +z; edges that leave the grid are not written.

    hidden (X, Y, Z) bool: nodes whose own slope is the hull's; floor: the weight that it has.
    """
    for i in range(begin, end):
        for j in range(field.shape[1]):
            for k in range(field.shape[2]):
                sure, scale = trust(target, weight, i, j, k)
                here = hull[i, j, k] if hidden[i, j, k] else field[i, j, k]
                for axis in range(3):
                    a, b, c = i + (axis == 0), j + (axis == 1), k + (axis == 2)
                    if a == field.shape[0] or b == field.shape[1] or c == field.shape[2]:
                        continue
                    other, other_scale = trust(target, weight, a, b, c)
                    there = hull[a, b, c] if hidden[a, b, c] else field[a, b, c]
                    strength = (sure + other) / 2.0 + floor
                    pull = sure * scale * target[i, j, k, axis]
                    pull = (pull + other * other_scale * target[a, b, c, axis]) / 2.0
                    slope[i, j, k, axis] = (pull + floor * (there - here) / step) / strength
                    linked = free[i, j, k] and free[a, b, c]
                    edge[i, j, k, axis] = strength if linked else 0.0


@kernel
def count_free(free, counts):  # type: ignore[no-untyped-def]
    """counts (X, 2) int64: how many inner nodes are `free` in each slice x, of even and odd sum."""
    nx, ny, nz = free.shape
    for i in range(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                if free[i, j, k]:
                    counts[i, (i + j + k) & 1] += 1


@kernel
def equations(free, slope, edge, hold, wanted, step, first, node, share, rest, begin, end):  # type: ignore[no-untyped-def]
    """What `relax` solves: the minimum of

        sum_edges edge (difference along the edge / step - slope)^2
      + sum_nodes hold / step^2 (field - wanted)^2

    in each free node, the others given: field = share . (its neighbours) + rest.

    slope, edge  (X, Y, Z, 3), of the edge from a node to the next one along each axis
    first        (X, 2) int64: where a slice's nodes of even and odd sum begin
    node         (N,) int32 flat; share (N, 6) float32 of x + 1, x - 1, y + 1, ...; rest (N,)
                 float32. A node that nothing speaks of keeps its value: its shares are 0, and
                 rest is not finite.
    """
    _, ny, nz = free.shape
    for i in range(max(begin, 1), min(end, free.shape[0] - 1)):
        at = first[i].copy()
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                if not free[i, j, k]:
                    continue
                side = (i + j + k) & 1
                n = at[side]
                at[side] += 1
                node[n] = (i * ny + j) * nz + k
                w0, w1 = edge[i, j, k, 0], edge[i - 1, j, k, 0]
                w2, w3 = edge[i, j, k, 1], edge[i, j - 1, k, 1]
                w4, w5 = edge[i, j, k, 2], edge[i, j, k - 1, 2]
                h = hold[i, j, k]
                total = w0 + w1 + w2 + w3 + w4 + w5 + h
                if total < 1e-9:
                    share[n] = 0.0
                    rest[n] = np.inf
                    continue
                pull = (
                    w1 * slope[i - 1, j, k, 0]
                    - w0 * slope[i, j, k, 0]
                    + w3 * slope[i, j - 1, k, 1]
                    - w2 * slope[i, j, k, 1]
                    + w5 * slope[i, j, k - 1, 2]
                    - w4 * slope[i, j, k, 2]
                )
                share[n, 0], share[n, 1] = w0 / total, w1 / total
                share[n, 2], share[n, 3] = w2 / total, w3 / total
                share[n, 4], share[n, 5] = w4 / total, w5 / total
                rest[n] = (step * pull + h * wanted[i, j, k]) / total


@kernel
def relax(field, hull, across, down, node, share, rest, omega, begin, end):  # type: ignore[no-untyped-def]
    """Projected successive over-relaxation of the nodes begin to end, which are not neighbours:
    field >= hull, so nothing sticks out of the silhouettes.

    field, hull   (X * Y * Z,) float32; across, down: steps in it to the next x and y
    node, share, rest   of `equations`
    """
    for n in range(begin, end):
        at = node[n]
        if rest[n] == np.inf:
            continue
        value = (
            share[n, 0] * field[at + across]
            + share[n, 1] * field[at - across]
            + share[n, 2] * field[at + down]
            + share[n, 3] * field[at - down]
            + share[n, 4] * field[at + 1]
            + share[n, 5] * field[at - 1]
            + rest[n]
        )
        moved = field[at] + omega * (value - field[at])
        field[at] = max(moved, hull[at])
