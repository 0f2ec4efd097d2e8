"""Lookup tables of dual marching cubes, derived from how a cube's corners, edges and faces connect.

A case is the 8-bit number of a cube's inside corners. Its active edges have one end inside; they
fall into groups, one for every sheet of the surface that crosses the cube, and every group becomes
one dual vertex (Nielson, "Dual Marching Cubes", VIS 2004). The numbering of corners and edges is
the published checkpoint's, because its weights refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

CASES = 256
CORNERS = np.array([(c & 1, c >> 1 & 1, c >> 2) for c in range(8)])
"""(8, 3) offsets: corner c lies at (dx, dy, dz) with c = dx + 2 dy + 4 dz."""
EDGES = np.array(
    [(0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4)]
)
"""(12, 2) corners. Edges along y run from high to low: with that, one rule orients all faces."""
FACE_LOOPS = np.array(
    [(0, 2, 6, 4), (1, 3, 7, 5), (0, 1, 5, 4), (2, 3, 7, 6), (0, 1, 3, 2), (4, 5, 7, 6)]
)
"""(6, 4) corners of each face in circular order; faces -x, +x, -y, +y, -z, +z."""
FACE_DIRECTIONS = np.array([(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)])
"""(6, 3) outward directions."""
AROUND = np.array([(1, 1), (1, 0), (0, 1), (0, 0)])
"""(4, 2) steps back, along the two other axes, from a grid edge to the cubes that share it, in the
order of their indices."""


@dataclass(frozen=True)
class Tables:
    """One row a case.

    group_count     (256,) uint8, dual vertices of the case, 0 to 4
    group_of_edge   (256, 12) int8, which of them each edge belongs to, -1 for inactive edges
    ambiguous_face  (256,) int8. If both cubes at a face join its four active edges into one
                    group each, two sheets would share one edge of the mesh (cases C16 and C19 of
                    Chernyaev, "Marching Cubes 33", CERN 1995). This is that face, -1 for none
    edge_around     (3, 4), the number that a grid edge along each axis has in the four cubes that
                    share it, in the order of `AROUND`
    """

    group_count: np.ndarray
    group_of_edge: np.ndarray
    ambiguous_face: np.ndarray
    edge_around: np.ndarray


@cache
def tables() -> Tables:
    """The tables, made on first use (a few milliseconds)."""
    count = np.zeros(CASES, np.uint8)
    of_edge = np.full((CASES, len(EDGES)), -1, np.int8)
    ambiguous = np.full(CASES, -1, np.int8)
    for case in range(CASES):
        groups = edge_groups(case)
        count[case] = len(groups)
        for number, group in enumerate(groups):
            of_edge[case, group] = number
        for face, active in enumerate(_active_face_edges(case)):
            if len(active) == 4 and len({int(of_edge[case, edge]) for edge in active}) == 1:
                ambiguous[case] = face
    return Tables(count, of_edge, ambiguous, _edges_around())


def edge_groups(case: int) -> list[list[int]]:
    """The groups of active edges of a case, each ascending, sorted."""
    inside = [bool(case >> corner & 1) for corner in range(8)]
    group = {edge: {edge} for edge, (a, b) in enumerate(EDGES.tolist()) if inside[a] != inside[b]}

    def join(a: int, b: int) -> None:
        merged = group[a] | group[b]
        group.update(dict.fromkeys(merged, merged))

    for loop, active in zip(FACE_LOOPS.tolist(), _active_face_edges(case), strict=True):
        if len(active) == 2:
            join(*active)
        elif len(active) == 4:
            # Inside corners sit crosswise: the surface cuts each of them off by itself.
            for corner in (corner for corner in loop if inside[corner]):
                join(*(edge for edge in active if corner in EDGES[edge]))
    return sorted(list(edges) for edges in {tuple(sorted(edges)) for edges in group.values()})


def _active_face_edges(case: int) -> list[list[int]]:
    """For each of the six faces, its edges with one end inside."""
    return [
        [
            edge
            for edge, (a, b) in enumerate(EDGES.tolist())
            if a in loop and b in loop and (case >> a & 1) != (case >> b & 1)
        ]
        for loop in FACE_LOOPS.tolist()
    ]


def _edges_around() -> np.ndarray:
    number = np.empty((3, len(AROUND)), np.int64)
    for edge, (start, end) in enumerate(CORNERS[EDGES]):
        (axis,) = np.flatnonzero(start != end)
        place = np.delete(start, axis)
        number[axis, (place == AROUND).all(axis=1)] = edge
    return number
