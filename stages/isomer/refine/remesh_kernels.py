"""Loops of `remesh` on the CPU: what its tensor operations find, in a quarter of their time.

Imported where they are called, because numba is heavy. Shared arguments:

positions  (V, 3) float32; faces (F, 3) int64
ends       (E, 2) int64, of_side (F, 3) int64, face_count (E,) int64: of the faces' `EdgeTable`
"""

from __future__ import annotations

import numpy as np

from stages.geometry.jit import kernel


@kernel
def mark(positions, faces, ends, of_side, normals, min_length, choice, marked):  # type: ignore[no-untyped-def]
    """marked (E,) bool, False at first: see `remesh.mark_bad_faces`.

    normals (V, 3) and min_length (V,) float32; choice (F,) int64, 0 for a face's longest side
    """
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = side(positions, a, b)
        vx, vy, vz = side(positions, a, c)
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        along = x * (normals[a, 0] + normals[b, 0] + normals[c, 0])
        along += y * (normals[a, 1] + normals[b, 1] + normals[c, 1])
        along += z * (normals[a, 2] + normals[b, 2] + normals[c, 2])
        wanted = (min_length[a] + min_length[b] + min_length[c]) / np.float32(3.0)
        if along >= 0.0 and np.sqrt(x * x + y * y + z * z) >= wanted * wanted:
            continue
        longest, shortest, most, least = 0, 0, np.float32(-1.0), np.float32(np.inf)
        for k in range(3):
            one = of_side[f, k]
            far = length(positions, ends[one, 0], ends[one, 1])
            if far > most:
                longest, most = k, far
            if far <= least:
                shortest, least = k, far
        if choice[f] == 0:
            marked[of_side[f, longest]] = True
        elif choice[f] == 1:
            marked[of_side[f, 3 - longest - shortest]] = True
        else:
            marked[of_side[f, shortest]] = True


@kernel
def side(positions, a, b):  # type: ignore[no-untyped-def]
    return (
        positions[b, 0] - positions[a, 0],
        positions[b, 1] - positions[a, 1],
        positions[b, 2] - positions[a, 2],
    )


@kernel
def length(positions, a, b):  # type: ignore[no-untyped-def]
    x, y, z = side(positions, a, b)
    return np.sqrt(x * x + y * y + z * z)


@kernel
def choose(ends, priority, vertices, chosen):  # type: ignore[no-untyped-def]
    """chosen (E,) bool: the edges that `remesh.collapse` merges, by their priority (E,) float32."""
    # The bits of positive floats grow with them; of equal ones the later edge counts more.
    bits = priority.view(np.int32)
    best, before = np.zeros(vertices, np.int64), np.zeros(vertices, np.int64)
    for e in range(len(ends)):
        if priority[e] > 0.0:
            key = (np.int64(bits[e]) << 32) + e
            for k in range(2):
                best[ends[e, k]] = max(best[ends[e, k]], key)
    for _ in range(2):
        for vertex in range(vertices):
            before[vertex] = best[vertex]
        for e in range(len(ends)):
            a, b = ends[e, 0], ends[e, 1]
            key = max(before[a], before[b])
            best[a], best[b] = max(best[a], key), max(best[b], key)
    owner = np.empty(vertices, np.int64)
    for vertex in range(vertices):
        owner[vertex] = -1
    for e in range(len(ends)):
        a, b = ends[e, 0], ends[e, 1]
        chosen[e] = priority[e] > 0.0 and max(best[a], best[b]) == (np.int64(bits[e]) << 32) + e
        if chosen[e]:
            owner[a] = owner[b] = e
    # Winners lie three steps apart, so that no vertex touches two of them.
    touched, common = np.zeros(vertices, np.int8), np.zeros(len(ends), np.int32)
    for e in range(len(ends)):
        a, b = ends[e, 0], ends[e, 1]
        if owner[a] < 0 <= owner[b]:
            a, b = b, a
        elif not owner[b] < 0 <= owner[a]:
            continue
        touched[b] += 1
        if touched[b] == 2:
            common[owner[a]] += 1
            chosen[owner[a]] = common[owner[a]] <= 2


@kernel
def split_faces(faces, sides, divided):  # type: ignore[no-untyped-def]
    """divided (F + N, 3) int64: faces without what their N cut sides cut off, then that.

    sides (F, 3) int64, the vertex in the middle of each side, -1 where it is whole
    """
    count = len(faces)
    for f in range(count):
        for k in range(3):
            divided[f, k] = sides[f, k] if sides[f, k] >= 0 else faces[f, k]
    for k in range(3):
        for f in range(len(faces)):
            if sides[f, k] >= 0:
                divided[count, 0], divided[count, 1] = faces[f, k], sides[f, k]
                divided[count, 2] = divided[f, (k + 2) % 3]
                count += 1


@kernel
def flip_edges(positions, faces, ends, of_side, face_count, flipped):  # type: ignore[no-untyped-def]
    """flipped (F, 3) int64, a copy of the faces at first: see `remesh.flip`."""
    vertices, edges = len(positions), len(ends)
    beside = np.empty((edges, 2), np.int64)
    for e in range(edges):
        beside[e, 0] = beside[e, 1] = -1
    for f in range(len(faces)):
        for k in range(3):
            backwards = faces[f, k] > faces[f, (k + 1) % 3]
            beside[of_side[f, k], 1 if backwards else 0] = 3 * f + k
    degree = np.zeros(vertices, np.int64)
    for e in range(edges):
        degree[ends[e, 0]] += 1
        degree[ends[e, 1]] += 1
    # Who gains most wins at a vertex, of equal ones the later edge.
    best, key = np.zeros(vertices, np.int64), np.zeros(edges, np.int64)
    for e in range(edges):
        if face_count[e] != 2 or beside[e, 0] < 0 or beside[e, 1] < 0:
            continue
        a, b, left, right = around(faces, ends, beside, e)
        gain = degree[a] + degree[b] - degree[left] - degree[right] - 2
        if gain > 0:
            key[e] = gain * edges + e
            for vertex in (a, b, left, right):
                best[vertex] = max(best[vertex], key[e])
    for e in range(edges):
        if key[e] == 0:
            continue
        a, b, left, right = around(faces, ends, beside, e)
        if max(best[a], best[b], best[left], best[right]) != key[e]:
            continue
        if not stays_unfolded(positions, a, b, left, right):
            continue
        one, other = beside[e, 0] // 3, beside[e, 1] // 3
        flipped[one, 0], flipped[one, 1], flipped[one, 2] = a, right, left
        flipped[other, 0], flipped[other, 1], flipped[other, 2] = b, left, right


@kernel
def around(faces, ends, beside, e):  # type: ignore[no-untyped-def]
    """An edge's ends, and the corners opposite to it on its left and right."""
    left, right = beside[e, 0], beside[e, 1]
    left, right = faces[left // 3, (left + 2) % 3], faces[right // 3, (right + 2) % 3]
    return ends[e, 0], ends[e, 1], left, right


@kernel
def stays_unfolded(positions, a, b, left, right):  # type: ignore[no-untyped-def]
    """Whether both faces after a flip look to the side of the two before it."""
    along, up, down = side(positions, a, b), side(positions, a, left), side(positions, a, right)
    one, two = cross(along, up), cross(down, along)
    before = one[0] + two[0], one[1] + two[1], one[2] + two[2]
    up_from_b = up[0] - along[0], up[1] - along[1], up[2] - along[2]
    down_from_b = down[0] - along[0], down[1] - along[1], down[2] - along[2]
    if dot(before, cross(down, up)) <= 0.0:
        return False
    return dot(before, cross(up_from_b, down_from_b)) > 0.0


@kernel
def cross(u, v):  # type: ignore[no-untyped-def]
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


@kernel
def dot(u, v):  # type: ignore[no-untyped-def]
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
