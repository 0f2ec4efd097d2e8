"""Colours for vertices that no view sees, grown inwards from those that some view does."""

from __future__ import annotations

import numpy as np

from stages.geometry.numpy_edges import adjacency

MAX_ROUNDS = 10_000


def complete(colors: np.ndarray, known: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Fill unknown vertices by repeated neighbour means (reference ISOMER, unseen vertices).

    Every round sets all unknown vertices at once to the mean of their coloured neighbours
    (Jacobi). Colour advances by one edge a round; when it has reached everything that it can, as
    many rounds again smooth what was filled. Parts without a known vertex keep their colour.

    colors (V, C) float64, known (V,) bool, edges (E, 2); returns (V, C) float64.
    """
    unknown = np.flatnonzero(~known)
    filled = np.array(colors, np.float64)
    if not len(unknown) or not known.any():
        return filled
    # Only rows of unknown vertices change, and the known part of their sums never does.
    neighbours = adjacency(edges, len(colors))[unknown]
    among = neighbours[:, unknown]
    ones = known[:, None].astype(np.float64)
    constant = neighbours @ (np.concatenate([filled, np.ones_like(ones)], axis=1) * ones)
    state = np.concatenate([filled[unknown], np.zeros((len(unknown), 1))], axis=1)
    reached, growing, rounds = 0, True, 0
    for _ in range(MAX_ROUNDS):
        coloured = state[:, -1:]
        total = constant + among @ (state * np.where(coloured > 0, 1.0, 0.0))
        touched = total[:, -1] > 0.0
        state[touched, :-1] = total[touched, :-1] / total[touched, -1:]
        state[touched, -1] = 1.0
        count = int(touched.sum())
        growing = growing and count > reached
        reached = count
        rounds += 1 if growing else -1
        if rounds <= 0:
            break
    filled[unknown] = state[:, :-1]
    return filled


def fill_islands(
    colors: np.ndarray, known: np.ndarray, vertices: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give each part without any known vertex the colours of the known vertices nearest in space.

    vertices (V, 3); returns new colors and known. At least one vertex must be known.
    """
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    _, part = connected_components(adjacency(edges, len(colors)), directed=False)
    has_known = np.bincount(part, weights=known) > 0
    island = ~has_known[part]
    if not island.any():
        return colors, known
    sources = np.flatnonzero(known)
    _, nearest = KDTree(vertices[sources]).query(vertices[island])
    colors, known = colors.copy(), known.copy()
    colors[island] = colors[sources[nearest]]
    known[island] = True
    return colors, known
