"""Loops over the sides of faces. Imported by `torch_edges` only, because numba is heavy."""

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
    sides = 3 * faces.shape[0]
    begin = np.zeros(vertex_count + 1, np.int64)
    for side in range(sides):
        one, other = faces[side // 3, side % 3], faces[side // 3, (side + 1) % 3]
        begin[min(one, other) + 1] += 1
    for vertex in range(vertex_count):
        begin[vertex + 1] += begin[vertex]
    free = begin[:-1].copy()
    dealt, upper = np.empty(sides, np.int64), np.empty(sides, np.int64)
    for side in range(sides):
        one, other = faces[side // 3, side % 3], faces[side // 3, (side + 1) % 3]
        low, high = min(one, other), max(one, other)
        place = free[low]
        free[low] += 1
        while place > begin[low] and upper[place - 1] > high:
            upper[place], dealt[place] = upper[place - 1], dealt[place - 1]
            place -= 1
        upper[place], dealt[place] = high, side
    count = 0
    for vertex in range(vertex_count):
        for place in range(begin[vertex], begin[vertex + 1]):
            if place == begin[vertex] or upper[place] != upper[place - 1]:
                ends[count, 0], ends[count, 1] = vertex, upper[place]
                face_count[count] = 0
                count += 1
            face_count[count - 1] += 1
            of_side[dealt[place]] = count - 1
    return count
