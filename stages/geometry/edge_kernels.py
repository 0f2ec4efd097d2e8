"""Loops over faces and their sides. Imported by `torch_edges` only, because numba is heavy."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stages.geometry.jit import kernel

Array: TypeAlias = np.ndarray


@kernel
def unique_edges(
    faces: Array, vertex_count: int, ends: Array, of_side: Array, face_count: Array
) -> int:
    """Fill in an `EdgeTable` of (F, 3) int64 faces; returns how many edges there are.

    ends (3 F, 2) int64, of_side (3 F,) int64, face_count (3 F,) int64. Sides are dealt out to their
    lower vertex, and the few of each vertex are sorted by the other one.
    """
    begin = np.zeros(vertex_count + 1, np.int32)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        begin[min(a, b) + 1] += 1
        begin[min(b, c) + 1] += 1
        begin[min(c, a) + 1] += 1
    for vertex in range(vertex_count):
        begin[vertex + 1] += begin[vertex]
    free = begin[:-1].copy()
    dealt, upper = np.empty(3 * len(faces), np.int32), np.empty(3 * len(faces), np.int32)
    for f in range(len(faces)):
        for k in range(3):
            one, other = faces[f, k], faces[f, (k + 1) % 3]
            low, high = min(one, other), max(one, other)
            first, place = begin[low], free[low]
            free[low] += 1
            while place > first and upper[place - 1] > high:
                upper[place], dealt[place] = upper[place - 1], dealt[place - 1]
                place -= 1
            upper[place], dealt[place] = high, 3 * f + k
    count = 0
    for vertex in range(vertex_count):
        last = -1
        for place in range(begin[vertex], begin[vertex + 1]):
            if upper[place] != last:
                last = upper[place]
                ends[count, 0], ends[count, 1] = vertex, last
                face_count[count] = 0
                count += 1
            face_count[count - 1] += 1
            of_side[dealt[place]] = count - 1
    return count


@kernel
def sum_normals(vertices, faces, total):  # type: ignore[no-untyped-def]
    """Add to total (V, 3) float64 the normals (v1 - v0) x (v2 - v0) of faces (F, 3) around each
    vertex; vertices (V, 3) float32."""
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz, vx, vy, vz = sides_of(vertices, a, b, c)
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            total[corner, 0] += x
            total[corner, 1] += y
            total[corner, 2] += z


@kernel
def sum_normals_back(vertices, faces, given, found):  # type: ignore[no-untyped-def]
    """Add to found (V, 3) float64 the gradient of `sum_normals`, given (V, 3) float64 that of its
    total."""
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz, vx, vy, vz = sides_of(vertices, a, b, c)
        gx = given[a, 0] + given[b, 0] + given[c, 0]
        gy = given[a, 1] + given[b, 1] + given[c, 1]
        gz = given[a, 2] + given[b, 2] + given[c, 2]
        # v x g and g x u, the gradients of both sides.
        bx, by, bz = vy * gz - vz * gy, vz * gx - vx * gz, vx * gy - vy * gx
        cx, cy, cz = gy * uz - gz * uy, gz * ux - gx * uz, gx * uy - gy * ux
        found[a, 0] -= bx + cx
        found[a, 1] -= by + cy
        found[a, 2] -= bz + cz
        found[b, 0] += bx
        found[b, 1] += by
        found[b, 2] += bz
        found[c, 0] += cx
        found[c, 1] += cy
        found[c, 2] += cz


@kernel
def sides_of(vertices, a, b, c):  # type: ignore[no-untyped-def]
    """v1 - v0 and v2 - v0 of a face, float64."""
    x, y, z = np.float64(vertices[a, 0]), np.float64(vertices[a, 1]), np.float64(vertices[a, 2])
    return (
        vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z,
        vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z,
    )  # fmt: skip
